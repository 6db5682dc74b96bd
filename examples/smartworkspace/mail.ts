import { createTransport } from 'nodemailer'
import type { EmailOptions } from 'passport-jit/strategies/email'
import { StartProblem } from './listen.js'

/** A mail that was sent, as its reader sees it. */
export interface SentMail {
  readonly id: string
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly to: string
  readonly subject: string
  readonly text: string
  readonly html: string
}

/** The mails of the on-screen inbox, newest first. */
export interface Inbox {
  readonly mails: () => readonly SentMail[]
}

/** How the app sends mail. */
export interface Mailing extends Pick<EmailOptions, 'transport' | 'from'> {
  /** What was kept instead of sent; always empty where mail really leaves. */
  readonly inbox: Inbox
  /** For the banner. */
  readonly label: string
}

/** Mails that the inbox keeps; an older one is forgotten. */
const most = 50

/** Real mail where `smtpUrl` is given, else the on-screen inbox. `where` says how the inbox is read. */
export function openMail(options: {
  readonly smtpUrl: string | undefined
  readonly from: string | undefined
  readonly baseUrl: string
  readonly where: string
}): Mailing {
  const { smtpUrl, baseUrl, where } = options
  if (options.from && !options.from.includes('@'))
    throw new StartProblem(['MAIL_FROM: it is not an address such as Smartworkspace <no-reply@example.com>'])
  const from = options.from || `Smartworkspace <no-reply@${new URL(baseUrl).hostname}>`
  return smtpUrl ? smtpMail(smtpUrl, from) : onScreenMail(from, where)
}

/** nodemailer by SMTP. The waits are shorter than a sign-in, which would otherwise give up without a reason. */
function smtpMail(url: string, from: string): Mailing {
  if (!/^smtps?:$/.test(URL.canParse(url) ? new URL(url).protocol : '')) {
    throw new StartProblem([
      'SMTP_URL: it is not an address such as smtp://user:password@mail.example.com:587',
    ])
  }
  const target = new URL(url)
  for (const wait of ['connectionTimeout', 'greetingTimeout', 'socketTimeout'])
    if (!target.searchParams.has(wait)) target.searchParams.set(wait, '4000')
  const transport = createTransport(target.href)
  return { transport, from, inbox: { mails: () => [] }, label: `by SMTP at ${target.host}, from ${from}` }
}

/** nodemailer as far as a finished mail, which is kept in this process and goes nowhere. */
function onScreenMail(from: string, where: string): Mailing {
  const composer = createTransport({ jsonTransport: true })
  const kept: SentMail[] = []
  let count = 0
  return {
    from,
    transport: {
      sendMail: async (mail) => {
        const { message } = await composer.sendMail({ ...mail })
        const { to, subject, text, html } = JSON.parse(message) as Composed
        const mails = { to: to.map(({ address }) => address).join(', '), subject, text, html }
        kept.unshift({ id: `mail-${++count}`, at: Date.now(), ...mails })
        kept.length = Math.min(kept.length, most)
      },
    },
    inbox: { mails: () => kept },
    label: `kept in this process, the last ${most}; ${where}`,
  }
}

/** What nodemailer's JSON transport gives of a mail, as far as it is shown. */
interface Composed {
  readonly to: readonly { readonly address: string }[]
  readonly subject: string
  readonly text: string
  readonly html: string
}
