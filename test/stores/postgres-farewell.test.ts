import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { postgresStore } from 'passport-jit/stores/postgres'
import { Pool } from 'pg'
import { expect, test } from 'vitest'
import { change } from '../contract/store-world.js'

/** A message of the server: a letter, its length, its body (PostgreSQL manual, 55.7). */
function message(type: string, body: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeInt32BE(body.length + 4)
  return Buffer.concat([Buffer.from(type), length, body])
}
const ready = [message('R', Buffer.alloc(4)), message('Z', Buffer.from('I'))]
const fields = ['SFATAL', 'VFATAL', 'C57P01', 'Mterminating connection due to unexpected postmaster exit', '']
const farewell = message('E', Buffer.from(fields.map((field) => `${field}\0`).join('')))

test.each([
  ['in the bytes that make it ready', Buffer.concat([...ready, farewell])],
  ['and says it twice', Buffer.concat([...ready, farewell, farewell])],
])(
  'P17 a server that dies as a connection opens, %s: the commit fails, and the process lives',
  async (_, bytes) => {
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => socket.end(bytes))
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const pool = new Pool({ host: '127.0.0.1', port, user: 'x', database: 'x', max: 1 }).on('error', () => {})
    const fatal: unknown[] = []
    const note = (error: unknown) => fatal.push(error)
    process.prependListener('uncaughtException', note)
    try {
      const store = postgresStore({ pool })
      for (let round = 0; round < 3; round++) {
        await expect(store.commit(change(`c${round}`, {}))).rejects.toThrow()
        await expect(store.user('u')).rejects.toThrow()
      }
      await expect.poll(() => pool.totalCount).toBe(0)
      expect(fatal).toEqual([])
    } finally {
      process.off('uncaughtException', note)
      await pool.end()
      server.close()
    }
  },
)
