import type { TestProject } from 'vitest/node'
import { postgres } from './services.js'

declare module 'vitest' {
  export interface ProvidedContext {
    /** URL of a database for this run alone; null where there is no PostgreSQL. */
    database: string | null
  }
}

/** Makes the database that the tests of a project share, and drops it after them. */
export default async function setup(project: TestProject) {
  const fresh = await (await postgres())?.freshDatabase()
  project.provide('database', fresh?.url ?? null)
  return fresh?.drop
}
