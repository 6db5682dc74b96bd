/** Sections of the catalogue by the letter that the ids of their rows begin with. */
export const sections: Readonly<Record<string, string>> = {
  S: '1 SAML',
  O: '2 OpenID Connect and OAuth',
  L: '3 Linking and domains',
  E: '4 Codes and links by e-mail',
  P: '5 Provisioning',
  N: '6 Sessions',
}

/** The ids of rows that a test's name begins with: `O01 S26 …`, `L17, L18: …`. */
export const idsOf = (name: string): string[] =>
  (/^(?:[A-Z]\d\d[\s,:]+)*[A-Z]\d\d\b/.exec(name)?.[0] ?? '').split(/[\s,:]+/).filter(Boolean)
