import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type Demo, start } from '../demo/demo-process.js'
import { needs } from '../rig/services.js'
import { chromiumPath, launch } from './chromium.js'

needs('Chromium', chromiumPath, (path) => {
  let demo: Demo
  let browser: Browser
  let context: BrowserContext
  let page: Page

  beforeAll(async () => {
    demo = await start()
    browser = await launch(path)
  })
  afterAll(async () => {
    await browser?.close()
    await demo?.stop()
  })
  beforeEach(async () => {
    context = await browser.newContext()
    page = await context.newPage()
  })
  afterEach(() => context.close())

  /** From the sign-in page to the identity provider, which is another site. */
  async function begin(organization: string, tab: Page) {
    await tab.goto(demo.url)
    await tab.locator('.way', { hasText: organization }).click()
    await tab.waitForURL((url) => url.hostname === '127.0.0.1')
  }
  async function signIn(organization: string, person: string) {
    await begin(organization, page)
    await page.getByText(person).click()
    await page.waitForURL((url) => url.origin === demo.url)
  }
  const heading = (tab = page) => tab.locator('h1').textContent()

  test('by SAML: the workspace shows the roles and why, and sign-out ends it', async () => {
    const loud: string[] = []
    page.on('console', (message) => message.type() === 'error' && loud.push(message.text()))
    await signIn('SuperFantasy', 'Sarah Lindqvist')
    expect(page.url()).toBe(`${demo.url}/`)
    expect(await heading()).toBe('Hello, Sarah Lindqvist')
    const membership = page.locator('section', { has: page.locator('h2', { hasText: 'SuperFantasy' }) })
    expect(await membership.textContent()).toMatch(
      /designer by group design of connection superfantasy-saml.*since \d{4}-\d\d-\d\d.*member by default of connection superfantasy-saml/s,
    )
    expect(await page.locator('.created').count()).toBe(1)

    await page.getByRole('button', { name: 'Sign out' }).click()
    expect(await heading()).toBe('Sign in to Smartworkspace')
    expect((await page.request.get(`${demo.url}/api/me`)).status()).toBe(401)
    expect(loud).toEqual([])
  })

  test('by OpenID Connect: the same', async () => {
    await signIn('Globex', 'Grace Mbeki')
    expect(await heading()).toBe('Hello, Grace Mbeki')
    const membership = page.locator('section', { has: page.locator('h2', { hasText: 'Globex' }) })
    expect(await membership.textContent()).toMatch(/auditor by group finance of connection globex-oidc/)
    await page.getByRole('button', { name: 'Sign out' }).click()
    expect(await heading()).toBe('Sign in to Smartworkspace')
  })

  test('sign-out works on a page that sends no referrer, as helmet has it', async () => {
    await page.route(`${demo.url}/`, async (route) => {
      const response = await route.fetch()
      await route.fulfill({ response, headers: { ...response.headers(), 'referrer-policy': 'no-referrer' } })
    })
    await signIn('Globex', 'Grace Mbeki')
    await page.getByRole('button', { name: 'Sign out' }).click()
    expect(await heading()).toBe('Sign in to Smartworkspace')
    expect((await page.request.get(`${demo.url}/api/me`)).status()).toBe(401)
  })

  test('a colleague from the acquired company keeps the membership he had', async () => {
    await signIn('SuperFantasy', 'Peter Okafor')
    const [old, joined] = ['MagicTech', 'SuperFantasy'].map((name) =>
      page.locator('section', { has: page.locator('h2', { hasText: name }) }),
    )
    expect(await old!.textContent()).toMatch(/active.*admin by hand/s)
    expect(await joined!.textContent()).toMatch(
      /active.*admin by group team-leads of connection superfantasy-saml/s,
    )
  })

  test.each([
    ['SuperFantasy', 'Sarah Lindqvist'],
    ['Globex', 'Grace Mbeki'],
  ])('two tabs at once at %s both finish', async (organization, person) => {
    const other = await context.newPage()
    await begin(organization, page)
    await begin(organization, other)
    for (const tab of [page, other]) {
      await tab.getByText(person).click()
      await tab.waitForURL(`${demo.url}/`)
      expect(await heading(tab)).toBe(`Hello, ${person}`)
    }
    await page.reload()
    expect(await heading()).toBe(`Hello, ${person}`)
  })

  test('two tabs at once by different ways both finish', async () => {
    const other = await context.newPage()
    await begin('SuperFantasy', page)
    await begin('Globex', other)
    await page.getByText('Sarah Lindqvist').click()
    await page.waitForURL(`${demo.url}/`)
    await other.getByText('Grace Mbeki').click()
    await other.waitForURL(`${demo.url}/`)
    expect(await heading(other)).toBe('Hello, Grace Mbeki')
  })

  test.each([
    ['Initech', 'Ines Duarte', 'You do not have an account here yet.'],
    ['SuperFantasy', 'Wanda Reyes', 'Your e-mail address belongs to another organization.'],
  ])('%s refuses %s with a sentence and a way back', async (organization, person, sentence) => {
    await signIn(organization, person)
    expect(await page.locator('main').textContent()).toContain(sentence)
    expect((await page.request.get(`${demo.url}/api/me`)).status()).toBe(401)
    await page.getByRole('link', { name: 'Back to the sign-in page' }).click()
    expect(await heading()).toBe('Sign in to Smartworkspace')
  })

  test('the list of decisions takes in new ones by itself', async () => {
    const list = await context.newPage()
    await list.goto(`${demo.url}/decisions`)
    const refusals = list.locator('#log > li', { hasText: 'email_outside' })
    const before = await refusals.count()
    await signIn('SuperFantasy', 'Otto Freund')
    await expect.poll(() => refusals.count(), { timeout: 10_000 }).toBe(before + 1)
  })
})
