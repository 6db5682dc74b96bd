import type { ConnectionFacts, IdentityKey, Membership, Tombstone, User, UserFacts } from '../lib/index.js'
import type { Bindable, Sql } from './sqlite-driver.js'

/** Users and connections as the rules and the sessions see them. */
export function sqliteUsers(sql: Sql) {
  const identitiesOf = (user: string) =>
    sql.all<IdentityKey>(
      'select source, issuer, subject from jit_identities where user_id = ? order by source, issuer, subject',
      user,
    )

  const membershipsOf = (user: string): Membership[] => {
    const grants = sql.all<{ organization: string } & Membership['grants'][number]>(
      `select organization_id as organization, role, source, basis from jit_grants where user_id = ?
       order by role, source`,
      user,
    )
    return sql
      .all<Omit<Membership, 'grants' | 'seat'> & { seat: number }>(
        'select organization_id as organization, status, seat from jit_memberships where user_id = ? order by 1',
        user,
      )
      .map((entry) => ({
        ...entry,
        seat: entry.seat === 1,
        grants: grants
          .filter((grant) => grant.organization === entry.organization)
          .map(({ role, source, basis }) => ({ role, source, basis })),
      }))
  }

  const usersWhere = (condition: string, ...values: Bindable[]): User[] =>
    sql
      .all<Omit<User, 'attributes'> & { attributes: string }>(
        `select id, version, status, epoch, verified_email as verifiedEmail, contact_email as contactEmail,
                attributes
         from jit_users where ${condition}`,
        ...values,
      )
      .map((row) => ({ ...row, attributes: JSON.parse(row.attributes) }))

  const factsOf = (user: User, organizations: readonly string[]): UserFacts => ({
    ...user,
    identities: identitiesOf(user.id),
    memberships: membershipsOf(user.id).filter((entry) => organizations.includes(entry.organization)),
    tombstones: sql
      .all<Tombstone>(
        `select organization_id as organization, role, removed_at as at from jit_tombstones where user_id = ?
         order by 1, 2`,
        user.id,
      )
      .filter((entry) => organizations.includes(entry.organization)),
  })

  const connectionsWhere = (condition: string, value: string) =>
    sql
      .all<Omit<ConnectionFacts, 'enabled'> & { enabled: number }>(
        `select id, organization_id as organization, version, enabled, epoch, held from jit_connections
         where ${condition}`,
        value,
      )
      .map((row) => ({ ...row, enabled: row.enabled === 1 }))

  return { identitiesOf, membershipsOf, usersWhere, factsOf, connectionsWhere }
}
