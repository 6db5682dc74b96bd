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
  const loud: string[] = []

  beforeAll(async () => {
    demo = await start()
    browser = await launch(path)
  })
  afterAll(async () => {
    await browser?.close()
    await demo?.stop()
  })
  beforeEach(async () => {
    loud.length = 0
    context = await browser.newContext()
    page = await context.newPage()
    page.on('console', (message) => message.type() === 'error' && loud.push(message.text()))
  })
  afterEach(() => context.close())

  const heading = (tab = page) => tab.locator('h1').textContent()
  const signedIn = async (tab: Page) => (await tab.request.get(`${demo.url}/api/me`)).status() === 200

  async function type(address: string) {
    await page.goto(demo.url)
    await page.getByLabel('E-mail address').fill(address)
    await page.getByRole('button', { name: 'Continue' }).click()
  }
  async function askForCode(address: string) {
    await type(address)
    await page.getByRole('button', { name: 'Mail me a code' }).click()
    await page.getByLabel('Code').waitFor()
  }
  /** The inbox in a tab of its own, and the newest mail to an address in it. */
  async function mailTo(address: string) {
    const inbox = await context.newPage()
    await inbox.goto(`${demo.url}/inbox`)
    const mail = inbox.locator('#log > li', { hasText: `to ${address}` }).first()
    const shown = mail.frameLocator('iframe')
    const code = await shown.locator('strong').first().textContent()
    const link = shown.getByRole('link')
    return { inbox, code: code!, link }
  }
  async function enter(code: string) {
    await page.bringToFront()
    await page.getByLabel('Code').fill(code)
    await page.getByRole('button', { name: 'Continue' }).click()
    await page.waitForURL(`${demo.url}/`)
  }

  test.each([
    ['sarah@superfantasy.example', '/superfantasy/', 'Sarah Lindqvist'],
    ['grace@globex.example', '/globex/', 'Grace Mbeki'],
  ])('%s is led to the identity provider of the organization', async (address, provider, name) => {
    await type(address)
    await page.waitForURL((url) => url.hostname === '127.0.0.1' && url.pathname.startsWith(provider))
    await page.getByText(name).click()
    await page.waitForURL(`${demo.url}/`)
    expect(await heading()).toBe(`Hello, ${name}`)
    expect(loud).toEqual([])
  })

  test('an address of MagicTech is mailed a code, and joins with the role of the domain', async () => {
    await askForCode('mira@magictech.example')
    const { code, inbox } = await mailTo('mira@magictech.example')
    await inbox.close()
    await enter(code)
    expect(await heading()).toBe('Hello, mira@magictech.example')
    const membership = page.locator('section', { has: page.locator('h2', { hasText: 'MagicTech' }) })
    expect(await membership.textContent()).toMatch(/active.*member by the e-mail domain/s)
    expect(await page.locator('.created').count()).toBe(1)
    expect(loud).toEqual([])
  })

  test('an address elsewhere chooses between a code and the social provider, and joins nothing', async () => {
    await type('hugo@elsewhere.example')
    await page.getByRole('button', { name: 'Mail me a code' }).waitFor()
    await page.getByRole('link', { name: 'Pixelhub' }).click()
    await page.waitForURL((url) => url.hostname === '127.0.0.1')
    await page.getByText('Hugo Blanc').click()
    await page.waitForURL(`${demo.url}/`)
    expect(await heading()).toBe('Hello, Hugo Blanc')
    expect(await page.locator('main').textContent()).toContain('No memberships')
    expect(loud).toEqual([])
  })

  test('a wrong code asks again, and the right one still works', async () => {
    await askForCode('wrong@elsewhere.example')
    const { code, inbox } = await mailTo('wrong@elsewhere.example')
    await inbox.close()
    await page.getByLabel('Code').fill(code === '000000' ? '000001' : '000000')
    await page.getByRole('button', { name: 'Continue' }).click()
    await page.getByText('That code is not right').waitFor()
    expect(await signedIn(page)).toBe(false)
    await enter(code)
    expect(await signedIn(page)).toBe(true)
  })

  test('a link opened in another browser signs in nobody until its button is pressed, and there only', async () => {
    await askForCode('tomas@magictech.example')
    const { link } = await mailTo('tomas@magictech.example')
    const address = await link.getAttribute('href')
    const other = await browser.newContext()
    try {
      const tab = await other.newPage()
      await tab.goto(address!)
      expect(await heading(tab)).toBe('Sign in?')
      expect([await signedIn(tab), await signedIn(page)]).toEqual([false, false])
      await tab.reload()
      await tab.getByRole('button', { name: 'Sign in on this device' }).click()
      await tab.waitForURL(`${demo.url}/`)
      expect(await heading(tab)).toBe('Hello, tomas@magictech.example')
      expect([await signedIn(tab), await signedIn(page)]).toEqual([true, false])
    } finally {
      await other.close()
    }
  })

  test('a link of the inbox opens in a tab of its own, where its button works', async () => {
    await askForCode('link@elsewhere.example')
    const { inbox, link } = await mailTo('link@elsewhere.example')
    inbox.on('console', (message) => message.type() === 'error' && loud.push(message.text()))
    const [opened] = await Promise.all([context.waitForEvent('page'), link.click()])
    await opened.getByRole('button', { name: 'Sign in on this device' }).click()
    await opened.waitForURL(`${demo.url}/`)
    expect(await heading(opened)).toBe('Hello, link@elsewhere.example')
    expect(loud).toEqual([])
  })

  test('an account that is there already is proved by a mailed code, once', async () => {
    const bySocial = async () => {
      await page.goto(demo.url)
      await page.getByRole('link', { name: 'Continue with Pixelhub' }).click()
      await page.getByText('Peter Okafor').click()
      await page.waitForURL((url) => url.origin === demo.url)
    }
    await bySocial()
    expect(await heading()).toBe('Is this account yours?')
    expect(await signedIn(page)).toBe(false)
    await page.getByRole('button', { name: 'Mail me a code' }).click()
    await page.getByText('Enter it only if it was you who signed in with Pixelhub').waitFor()
    const { code, inbox } = await mailTo('peter@magictech.example')
    await inbox.close()
    await enter(code)
    expect(await heading()).toBe('Hello, Peter Okafor')
    expect(await page.locator('.linked').count()).toBe(1)
    expect(await page.locator('main').textContent()).toContain('signed in by Pixelhub')

    await page.getByRole('button', { name: 'Sign out' }).click()
    await bySocial()
    expect(await heading()).toBe('Hello, Peter Okafor')
    expect(loud).toEqual([])
  })
})
