import fc from 'fast-check'
import {
  type ConnectionId,
  type ConnectionSettings,
  connections,
  type OrganizationId,
  type OrganizationSettings,
  organizations,
  roles,
  type Settings,
} from './world.js'

const given = roles.filter((role) => role !== 'owner')

const connection: fc.Arbitrary<ConnectionSettings> = fc.record({
  enabled: fc.boolean(),
  create: fc.boolean(),
  join: fc.boolean(),
  mode: fc.constantFrom('add', 'sync'),
  absent: fc.constantFrom('unknown', 'empty'),
  withoutRole: fc.constantFrom('keep', 'leave'),
  outsiders: fc.constantFrom('deny', 'separate'),
  adoptEmail: fc.boolean(),
  profileSync: fc.constantFrom('never', 'first-sign-in', 'every-sign-in'),
  defaults: fc.subarray(given),
  map: fc.record({ staff: fc.subarray(given), board: fc.subarray(given) }),
  oneOf: fc.boolean(),
})

const organization: fc.Arbitrary<Omit<OrganizationSettings, 'domains'>> = fc.record({
  assignable: fc.subarray(given),
  domainJit: fc.boolean(),
  existingUsers: fc.boolean(),
  seatLimit: fc.constantFrom(null, 1, 3),
  whenFull: fc.constantFrom('deny', 'join-without-seat'),
  status: fc.constantFrom('active', 'active', 'suspended'),
})

/** A change of some keys of one entry. */
export type Edit =
  | { kind: 'organization'; id: OrganizationId; set: Partial<OrganizationSettings> }
  | { kind: 'connection'; id: ConnectionId; set: Partial<ConnectionSettings> }

const some = <T extends object>(whole: fc.Arbitrary<T>): fc.Arbitrary<Partial<T>> =>
  fc.tuple(whole, fc.nat()).map(([value, pick]) => {
    const keys = Object.keys(value) as (keyof T)[]
    const chosen = new Set([keys[pick % keys.length], keys[Math.floor(pick / 7) % keys.length]])
    return Object.fromEntries(
      Object.entries(value).filter(([key]) => chosen.has(key as keyof T)),
    ) as Partial<T>
  })

export const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.record({
    kind: fc.constant('organization' as const),
    id: fc.constantFrom(...organizations),
    set: some(organization),
  }),
  fc.record({
    kind: fc.constant('connection' as const),
    id: fc.constantFrom(...connections),
    set: some(connection),
  }),
)

export const edited = (settings: Settings, { kind, id, set }: Edit): Settings =>
  kind === 'organization'
    ? {
        ...settings,
        organizations: { ...settings.organizations, [id]: { ...settings.organizations[id], ...set } },
      }
    : { ...settings, connections: { ...settings.connections, [id]: { ...settings.connections[id], ...set } } }

const sso: ConnectionSettings = {
  enabled: true,
  create: true,
  join: true,
  mode: 'sync',
  absent: 'unknown',
  withoutRole: 'keep',
  outsiders: 'deny',
  adoptEmail: false,
  profileSync: 'every-sign-in',
  defaults: ['member'],
  map: { staff: ['editor'], board: ['admin'] },
  oneOf: false,
}

/** acme signs in by SSO, globex by its e-mail domain with its connection still off. */
export const settingsAtFirst: Settings = {
  organizations: {
    acme: {
      domains: ['acme.example'],
      assignable: given,
      domainJit: false,
      existingUsers: false,
      seatLimit: null,
      whenFull: 'deny',
      status: 'active',
    },
    globex: {
      domains: ['globex.example'],
      assignable: given,
      domainJit: true,
      existingUsers: true,
      seatLimit: null,
      whenFull: 'deny',
      status: 'active',
    },
  },
  connections: {
    'acme-saml': sso,
    'acme-oidc': { ...sso, enabled: false, outsiders: 'separate', adoptEmail: true },
    'globex-saml': { ...sso, enabled: false },
  },
}
