import type Database from 'libsql'

export type Bindable = string | number | null

export interface Sql {
  all<T>(text: string, ...values: Bindable[]): T[]
  /** The number of rows it changed. */
  run(text: string, ...values: Bindable[]): number
}

/** Statements by their text, each prepared once. */
export function prepared(db: Database.Database): Sql {
  const statements = new Map<string, Database.Statement>()
  const statement = (text: string, values: Bindable[]) => {
    for (const value of values) check(value)
    const found = statements.get(text) ?? db.prepare(text)
    statements.set(text, found)
    return found
  }
  // As one list: the driver takes a lone null for an object of named values.
  return {
    all: <T>(text: string, ...values: Bindable[]) => statement(text, values).all(values) as T[],
    run: (text, ...values) => statement(text, values).run(values).changes,
  }
}

/** The driver ends the whole process on a value of another type, and cuts a string at a NUL. */
function check(value: unknown): void {
  const fits =
    value === null ||
    (typeof value === 'string' && !value.includes('\0')) ||
    (typeof value === 'number' && Number.isFinite(value))
  if (!fits) throw new TypeError(`not a value for the database: ${JSON.stringify(value) ?? typeof value}`)
}

const isError = (error: unknown): error is Error & { code: string } =>
  error instanceof Error && typeof (error as { code?: unknown }).code === 'string'

export const isBusy = (error: unknown): error is Error =>
  isError(error) && /^SQLITE_(BUSY|LOCKED)/.test(error.code)

export const isUnique = (error: unknown): error is Error =>
  isError(error) && /^SQLITE_CONSTRAINT_(UNIQUE|PRIMARYKEY)$/.test(error.code)

export const isForeignKey = (error: unknown): boolean =>
  isError(error) && error.code === 'SQLITE_CONSTRAINT_FOREIGNKEY'
