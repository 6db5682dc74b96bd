import { readFileSync } from 'node:fs'
import { errorCodes, JitError } from 'passport-jit'
import { expect, test } from 'vitest'

const read = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')

test.each(errorCodes)('the code %s is documented with its status', (code) => {
  const row = read('docs/errors.md')
    .split('\n')
    .find((line) => line.startsWith('|') && line.split('|')[1]!.includes(`\`${code}\``))
  expect(row, `docs/errors.md has no row for ${code}`).toBeDefined()
  const { status } = new JitError(code, '')
  if (status !== 500) expect(row).toContain(`| ${status} |`)
})

test.each(errorCodes)('the sentence of %s is for a person: whole, and without jargon', (code) => {
  const { publicMessage } = new JitError(code, '')
  expect(publicMessage).toMatch(/^[A-Z].*\.$/)
  expect(publicMessage).not.toMatch(/SAML|OIDC|token|assertion|null|undefined|_/)
})

test('every file the documents point to exists', () => {
  for (const document of ['README.md', 'docs/architecture.md', 'docs/errors.md', 'test/README.md']) {
    const folder = document.includes('/') ? `${document.split('/')[0]}/` : ''
    for (const [, link] of read(document).matchAll(/\]\((?!https?:)([^)#]+)\)/g)) {
      if (!/\.\w+$/.test(link!)) continue
      expect(() => read(folder + link)).not.toThrow()
    }
  }
})
