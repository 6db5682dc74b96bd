import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A server on a free port. */
export async function listen(host: string, listener: RequestListener) {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  const origin = `http://${host}:${(server.address() as AddressInfo).port}`
  return {
    origin,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** A client that keeps cookies by origin and follows redirects only when told to. */
export function browser() {
  const jars = new Map<string, Map<string, string>>()
  const jar = (url: string) => {
    const { origin } = new URL(url)
    if (!jars.has(origin)) jars.set(origin, new Map())
    return jars.get(origin)!
  }

  async function go(url: string, init: RequestInit = {}) {
    const cookies = [...jar(url)].map(([name, value]) => `${name}=${value}`).join('; ')
    const headers = new Headers(init.headers)
    if (cookies && !headers.has('cookie')) headers.set('cookie', cookies)
    const response = await fetch(url, { ...init, headers, redirect: 'manual' })
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!
      if (/max-age=0/i.test(line)) jar(url).delete(name!)
      else jar(url).set(name!, value!)
    }
    const text = await response.text()
    const location = response.headers.get('location')
    return {
      status: response.status,
      headers: response.headers,
      text,
      /** Absolute, where there is one. */
      location: location === null ? null : new URL(location, url).href,
      json: () => JSON.parse(text),
    }
  }

  return {
    go,
    /** Goes to an address and then wherever it leads, ten times at most. */
    follow: async (url: string, init: RequestInit = {}) => {
      let answer = await go(url, init)
      for (let hops = 0; answer.location !== null && hops < 10; hops++) answer = await go(answer.location)
      return answer
    },
    cookies: (url: string) => jar(url),
  }
}

export type Browser = ReturnType<typeof browser>
