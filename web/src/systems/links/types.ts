export type Condition = { kind: string; value?: string; key?: string }
export type Variant = { target: string; weight: number }
export type Rule = { when?: Condition[]; target?: string; split?: Variant[]; app?: string }
export type Link = {
  id: string
  short_url: string
  domain: string
  code: string
  url: string
  state: string
  title: string
  notes: string
  folder: string
  tags: string[]
  redirect: number
  valid_since: string | null
  valid_until: string | null
  max_visits: number | null
  visits_left: number | null
  has_password: boolean
  forward_query: boolean
  crawlable: boolean
  archived: boolean
  rules: Rule[]
  created_at: string
  version: number
  clicks: number
  bots: number
}
export type Page<T> = { items: T[]; next: string | null }
export type Series = { points: { key: string; clicks: number; bots: number }[]; clicks: number; bots: number; visitors: number }
