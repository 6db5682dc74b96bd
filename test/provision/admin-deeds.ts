import type { Admin } from 'passport-jit'
import { by, type Scene } from './admin-scene.js'

const o = { organization: 'o', by } as const

/** Everything that an administrator may do, on people and things that wait for it. */
export async function deeds(
  scene: Scene,
): Promise<Record<string, (admin: Admin) => Promise<{ changed: boolean; decision: string | null }>>> {
  const { admin } = scene.jit
  await scene.person('owner', 'owner')
  const person = (name: string) => scene.person(name, 'viewer')
  const [suspended, removed, gone] = [
    await person('suspended'),
    await person('removed'),
    await person('gone'),
  ]
  await admin.suspend({ user: suspended, ...o })
  await admin.remove({ user: removed, ...o })
  await admin.removeUser({ user: gone, by })
  const [ann, bob, cy, dee, eve, guest] = [
    await person('ann'),
    await person('bob'),
    await person('cy'),
    await person('dee'),
    await person('eve'),
    (await scene.signIn('guest', { via: 'email', email: 'guest@elsewhere.example' })).after.user.id,
  ]
  const invite = async (email: string) => (await admin.invite({ ...o, email, role: 'viewer' })).invitation
  const [one, two] = [await invite('guest@elsewhere.example'), await invite('other@elsewhere.example')]
  const identity = { source: 'connection:c', issuer: 'https://idp.example', subject: 'ann' }
  await admin.disableConnection({ connection: 'd', by })
  const hold = { op: 'connection.hold', id: 'c', held: 'too much', at: 1 } as const
  await scene.store.commit({ id: 'held', expect: [], guards: [], ops: [hold], events: [] })
  return {
    suspend: (app) => app.suspend({ user: ann, ...o }),
    'suspend a user': (app) => app.suspend({ user: bob, by }),
    reactivate: (app) => app.reactivate({ user: suspended, ...o }),
    remove: (app) => app.remove({ user: cy, ...o }),
    readmit: (app) => app.readmit({ user: removed, ...o }),
    grant: (app) => app.grant({ user: dee, ...o, role: 'admin' }),
    revoke: (app) => app.revoke({ user: dee, ...o, role: 'viewer' }),
    invite: (app) => app.invite({ ...o, email: 'new@elsewhere.example', role: 'viewer' }),
    accept: (app) => app.accept({ invitation: one, user: guest, by: guest }),
    withdraw: (app) => app.withdraw({ invitation: two, ...o }),
    changeEmail: (app) => app.changeEmail({ user: ann, email: 'anna@o.example', by }),
    update: (app) => app.update({ user: ann, attributes: { title: 'Head' }, by }),
    unlink: (app) => app.unlink({ user: ann, identity, by }),
    removeUser: (app) => app.removeUser({ user: eve, by }),
    readmitUser: (app) => app.readmitUser({ email: 'gone@o.example', by }),
    releaseSync: (app) => app.releaseSync({ connection: 'c', by }),
    enableConnection: (app) => app.enableConnection({ connection: 'd', by }),
    disableConnection: (app) => app.disableConnection({ connection: 'd', by }),
    deleteConnection: (app) => app.deleteConnection({ connection: 'd', grants: 'revoke', by }),
  }
}
