import type { Told } from './play.js'

/** The stories as a table, with what differed below it. */
export function table(told: readonly Told[]): string {
  const rows = told.map(({ story, outcome, reason, rows: written, differences }) => [
    differences.length === 0 ? '✓' : '✗',
    story.title,
    story.person.name,
    story.way,
    outcome,
    reason,
    written,
  ])
  const lines = [['', 'story', 'person', 'way in', 'outcome', 'reason', 'rows written'], ...rows]
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  const text = lines.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
  text.splice(1, 0, widths.map((width) => '─'.repeat(width)).join('  '))
  const wrong = told.flatMap(({ story, differences }) =>
    differences.map((difference) => `  ${story.title}: ${difference}`),
  )
  return [
    ...text,
    '',
    ...(wrong.length > 0 ? ['What differed:', ...wrong] : ['Every story went as told.']),
  ].join('\n')
}
