import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import express from 'express'
import { Passport } from 'passport'
import { createJit, type Strategy, staticDirectory } from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import { postgresStore } from 'passport-jit/stores/postgres'
import { Pool } from 'pg'
import { expect, test } from 'vitest'
import { needs, postgres } from '../rig/services.js'
import { tcpProxy } from '../rig/tcp-proxy.js'
import { directoryInput } from '../tables/facts.js'
import { expectUnavailable, timed } from './visits.js'

needs('PostgreSQL', await postgres(), (service) => {
  test('P17: which does not answer a process that starts, whose pool waits for ever: each way in is 503 in time, and open afterwards', async () => {
    const fresh = await service.freshDatabase()
    const proxy = await tcpProxy({ port: Number(new URL(fresh.url).port || 5432) })
    const pool = new Pool({ connectionString: proxy.through(fresh.url) }).on('error', () => {})
    const elsewhere = 'https://idp.example/'
    const strategy = {
      protocol: 'oidc',
      attemptKey: () => undefined,
      begin: async () => ({ redirect: elsewhere, secrets: {} }),
      complete: () => Promise.reject(new Error('not part of this')),
    } as unknown as Strategy
    const jit = createJit({
      ...{ baseUrl: 'http://localhost', lock: memoryLock(), once: memoryOnce(), strategies: [strategy] },
      ...{ store: postgresStore({ pool }), directory: staticDirectory(directoryInput), log: () => {} },
    })
    const passport = new Passport()
    jit.passport(passport)
    const app = express()
      .use(jit.routes())
      .use('/in', passport.authenticate('jit', { connection: 'c', callback: '/in' } as never))
      .use(jit.errorPage())
    const server = createServer(app).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const go = async (path: string) => {
      const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      const response = await fetch(origin + path, { redirect: 'manual', signal: AbortSignal.timeout(20_000) })
      const { status, headers } = response
      return {
        ...{ status, location: headers.get('location'), retryAfter: headers.get('retry-after') },
        body: await response.text(),
      }
    }
    try {
      proxy.stall()
      for (const ending of await Promise.all(['/auth/sso/c', '/in'].map((path) => timed(go(path))))) {
        expectUnavailable(ending)
      }
      proxy.resume()
      await expect.poll(async () => (await go('/in')).location, { timeout: 10_000 }).toBe(elsewhere)
      expect(await go('/auth/sso/c')).toMatchObject({ status: 302, location: elsewhere })
    } finally {
      server.closeAllConnections()
      server.close()
      await pool.end()
      await proxy.close()
      await fresh.drop()
    }
  }, 60_000)
})
