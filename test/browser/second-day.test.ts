import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { type Demo, start } from '../demo/demo-process.js'
import { needs } from '../rig/services.js'
import { chromiumPath, launch } from './chromium.js'

needs('Chromium', chromiumPath, (path) => {
  let demo: Demo
  let browser: Browser
  const loud: string[] = []

  beforeAll(async () => {
    demo = await start()
    browser = await launch(path)
  })
  afterAll(async () => {
    await browser?.close()
    await demo?.stop()
  })
  afterEach(async () => {
    await Promise.all(browser.contexts().map((context) => context.close()))
    expect(loud.splice(0)).toEqual([])
  })

  /** Signs somebody of SuperFantasy in, in a browser of their own. */
  async function signIn(person: string): Promise<Page> {
    const page = await (await browser.newContext()).newPage()
    page.on('console', (message) => message.type() === 'error' && loud.push(message.text()))
    await page.goto(demo.url)
    await page.locator('.way', { hasText: 'SuperFantasy' }).click()
    await page.getByText(person).click()
    await page.waitForURL(`${demo.url}/`)
    return page
  }
  /** Opens somebody in the pages of SuperFantasy's administrators. */
  async function administer(page: Page, person: string): Promise<void> {
    await page.goto(demo.url)
    await page.getByRole('link', { name: 'Administer SuperFantasy' }).click()
    await page.getByRole('link', { name: person }).click()
    await page.getByRole('heading', { level: 1, name: person }).waitFor()
  }
  const heading = (page: Page) => page.locator('h1').textContent()
  const role = (page: Page, name: string) =>
    page.locator('.roles > li').filter({ has: page.locator('b', { hasText: new RegExp(`^${name}$`) }) })

  test('each role says why: by which rule or person, since when, and by which decision', async () => {
    const sarah = await signIn('Sarah Lindqvist')
    const olga = await signIn('Olga Brandt')
    await administer(olga, 'Sarah Lindqvist')
    await olga.getByLabel('Role').selectOption('editor')
    await olga.getByRole('button', { name: 'Give by hand' }).click()
    await role(olga, 'editor').waitFor()

    await sarah.reload()
    expect(await role(sarah, 'designer').textContent()).toMatch(
      /^designer by group design of connection superfantasy-saml\s+since \d{4}-\d\d-\d\d \d\d:\d\d, decision [0-9a-f]{8}$/,
    )
    expect(await role(sarah, 'editor').textContent()).toMatch(
      /^editor by hand\s+by Olga Brandt, since .*, decision [0-9a-f]{8}$/,
    )
    await role(sarah, 'editor').getByRole('link').click()
    const decision = sarah.locator('#log > li:target')
    expect(await decision.textContent()).toMatch(
      /Sarah Lindqvist SuperFantasy · by Olga Brandt\s+granted editor/,
    )

    // What is not there says why as well.
    await role(olga, 'designer').getByRole('button', { name: 'Take away' }).click()
    await olga.getByText('No designer.').waitFor()
    await sarah.goto(demo.url)
    expect(await sarah.locator('.absent').textContent()).toMatch(
      /No designer\. A person took it away.*by Olga Brandt, since/s,
    )
  })

  test('an administrator suspends somebody, whose other browser is signed out on the next click', async () => {
    const his = [await signIn('Lars Holm'), await signIn('Lars Holm')]
    const sarah = await signIn('Sarah Lindqvist')
    const olga = await signIn('Olga Brandt')
    await administer(olga, 'Lars Holm')
    for (const page of his) expect(await heading(page)).toBe('Hello, Lars Holm')
    await olga.getByRole('button', { name: 'Suspend' }).click()
    await olga.getByText('The membership is suspended').waitFor()

    for (const page of [...his, sarah]) await page.getByRole('link', { name: 'Smartworkspace' }).click()
    for (const page of his) expect(await heading(page)).toBe('Sign in to Smartworkspace')
    expect(await heading(sarah)).toBe('Hello, Sarah Lindqvist')

    await olga.getByRole('button', { name: 'Reactivate' }).click()
    await olga.getByRole('button', { name: 'Suspend' }).waitFor()
    expect(await heading(await signIn('Lars Holm'))).toBe('Hello, Lars Holm')
    // What had ended stays so.
    await his[0]!.reload()
    expect(await heading(his[0]!)).toBe('Sign in to Smartworkspace')
  })

  test('a guest is removed and re-admitted, and an invitation is accepted with a click', async () => {
    await signIn('Gita Rao')
    const olga = await signIn('Olga Brandt')
    await administer(olga, 'Gita Rao')
    await olga.getByRole('button', { name: 'Remove from SuperFantasy' }).click()
    const gone = olga.locator('section', { has: olga.locator('h2', { hasText: 'Removed' }) })
    await gone.getByText('Gita Rao').waitFor()
    const gita = await signIn('Gita Rao')
    expect(await gita.locator('main').textContent()).toContain('No memberships')
    await gone.getByRole('button', { name: 'Re-admit' }).click()
    await gone.waitFor({ state: 'detached' })

    await olga.getByLabel('E-mail address').fill('gita@superfantasy.example')
    await olga.getByLabel('Role').selectOption('editor')
    await olga.getByRole('button', { name: 'Invite' }).click()
    await olga.getByText('gita@superfantasy.example as editor').waitFor()
    await gita.reload()
    await gita.getByRole('button', { name: 'Accept' }).click()
    expect(await role(gita, 'editor').textContent()).toMatch(/^editor by invitation/)
  })

  test('somebody is promoted at the identity provider, and the operator reads the trail', async () => {
    const operator = await (await browser.newContext()).newPage()
    operator.on('console', (message) => message.type() === 'error' && loud.push(message.text()))
    await operator.goto(demo.url)
    const [people] = await Promise.all([
      operator.context().waitForEvent('page'),
      operator.getByRole('link', { name: 'at their identity provider' }).click(),
    ])
    const ivo = people.locator('form', { has: people.locator('[value="ivo@superfantasy.example"]') })
    await ivo.getByLabel('Groups').fill('everyone, team-leads')
    await ivo.getByRole('button', { name: 'Save' }).click()
    expect(await ivo.getByLabel('Groups').inputValue()).toBe('everyone, team-leads')
    const page = await signIn('Ivo Keller')
    expect(await role(page, 'admin').textContent()).toMatch(/^admin by group team-leads/)

    await operator.goto(`${demo.url}/decisions`)
    await operator.getByLabel('Everybody').selectOption('Ivo Keller')
    await operator.getByRole('button', { name: 'Show' }).click()
    const about = () => operator.locator('#log > li .who b').allTextContents()
    expect(await about()).toEqual(['Ivo Keller'])
    // The list stays about him: what is decided about others meanwhile is not added, what is about him is.
    await signIn('Peter Okafor')
    await ivo.getByLabel('Groups').fill('everyone')
    await ivo.getByRole('button', { name: 'Save' }).click()
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.locator('.way', { hasText: 'SuperFantasy' }).click()
    await page.getByText('Ivo Keller').click()
    await page.waitForURL(`${demo.url}/`)
    await expect.poll(about, { timeout: 10_000 }).toEqual(['Ivo Keller', 'Ivo Keller'])

    await operator.getByRole('link', { name: 'Operator' }).click()
    await operator.getByRole('button', { name: 'Verify the chain' }).click()
    await operator.getByText('intact').waitFor()
    await expect
      .poll(
        async () => {
          await operator.reload()
          return operator.locator('tbody').textContent()
        },
        { timeout: 10_000 },
      )
      .not.toContain('pending')
    const connection = operator.locator('li', { hasText: 'superfantasy-saml' })
    await connection.getByRole('button', { name: 'Switch off' }).click()
    await connection.getByRole('button', { name: 'Switch on' }).waitFor()
    await page.getByRole('link', { name: 'Smartworkspace' }).click()
    expect(await heading(page)).toBe('Sign in to Smartworkspace')
    await connection.getByRole('button', { name: 'Switch on' }).click()
    await connection.getByRole('button', { name: 'Switch off' }).waitFor()
  })
})
