import { Agent, type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Browser, form } from '../../examples/smartworkspace/browser.js'
import { employees } from '../../examples/smartworkspace/people.js'
import { needs, startRedis } from '../rig/services.js'
import { type Demo, start } from './demo-process.js'

needs('a Redis of its own', await startRedis(), (redis) => {
  const operator = new Redis(redis.url)
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  let demo: Demo
  let cookie: string
  beforeAll(async () => {
    demo = await start([], { REDIS_URL: redis.url })
    const browser = new Browser()
    const chooser = await browser.open(`${demo.url}/auth/sso/superfantasy-saml`)
    const answered = await browser.submit(chooser, form(chooser)!, { person: employees.sarah.id })
    expect((await browser.submit(answered, form(answered)!)).status).toBe(200)
    cookie = browser.cookies(new URL(demo.url))
  })
  afterAll(async () => {
    agent.destroy()
    operator.disconnect()
    await demo?.stop()
    await redis.close()
  })

  /** An answer in full, and whether it came on the connection of the one before. */
  async function get(path: string) {
    const asked = request(demo.url + path, { agent, headers: { cookie } }).end()
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      asked.once('response', resolve).once('error', reject)
    })
    return { status: answer.statusCode, body: await text(answer), sameConnection: asked.reusedSocket }
  }
  /** What Redis does not let the app do until it is allowed again. */
  const forbid = (command: string) => operator.acl('SETUSER', 'default', `-${command}`)
  const allow = (command: string) => operator.acl('SETUSER', 'default', `+${command}`)

  test('an answer is not cut off because the session behind it cannot be touched', async () => {
    const before = await get('/api/me')
    expect(before).toMatchObject({ status: 200, body: expect.stringContaining(employees.sarah.email) })
    await forbid('expire')
    try {
      expect(await get('/api/me')).toEqual({ ...before, sameConnection: true })
      // On the connection that an error would have ended.
      expect(await get('/api/me')).toEqual({ ...before, sameConnection: true })
    } finally {
      await allow('expire')
    }
    await expect
      .poll(() => demo.output().stderr)
      .toContain('warn the session store cannot be reached behind an answer: ReplyError: NOPERM')
  })

  test('a session that cannot be read is a 503, and the next request has it again', async () => {
    await forbid('get')
    try {
      const { status, body } = await get('/api/me')
      expect([status, JSON.parse(body)]).toEqual([503, expect.objectContaining({ error: 'unavailable' })])
    } finally {
      await allow('get')
    }
    expect((await get('/api/me')).status).toBe(200)
  })
})
