import { Button, ColorInput, Group, Image, NumberInput, SegmentedControl, Stack, Switch, Text } from "@mantine/core"
import { useDebouncedValue } from "@mantine/hooks"
import { useState } from "react"
import { Panel } from "../../parts/Panel"
import type { Link } from "./types"

/** The link as a QR code, as it will be printed. */
export function Qr({ link }: { link: Link }) {
  const [size, setSize] = useState(300)
  const [margin, setMargin] = useState(16)
  const [level, setLevel] = useState("M")
  const [dark, setDark] = useState("#000000")
  const [light, setLight] = useState("#ffffff")
  const [rounded, setRounded] = useState(false)
  const options = { size: String(size), margin: String(margin), correction: level, color: dark.slice(1), background: light.slice(1), rounded: String(rounded) }
  const [asked] = useDebouncedValue(new URLSearchParams(options).toString(), 200)
  const address = (format: string) => `/api/links/links/${link.id}/qr?${asked}&format=${format}`
  return (
    <Panel title="QR code" hint="Scans of it are counted apart from clicks.">
      <Group align="flex-start" gap="lg">
        <Image src={address("svg")} alt={`QR code of ${link.short_url}`} w={200} h={200} fit="contain" data-testid="qr" />
        <Stack gap="xs" style={{ flex: 1, minWidth: 180 }}>
          <Group grow>
            <NumberInput size="xs" label="Pixels" value={size} onChange={(value) => setSize(Number(value) || 300)} min={50} max={1000} clampBehavior="strict" />
            <NumberInput size="xs" label="Margin" value={margin} onChange={(value) => setMargin(Number(value) || 0)} min={0} max={200} clampBehavior="strict" />
          </Group>
          <div>
            <Text size="xs">Error correction</Text>
            <SegmentedControl size="xs" fullWidth data={["L", "M", "Q", "H"]} value={level} onChange={setLevel} aria-label="Error correction" />
          </div>
          <Group grow>
            <ColorInput size="xs" label="Dark" value={dark} onChange={setDark} format="hex" />
            <ColorInput size="xs" label="Light" value={light} onChange={setLight} format="hex" />
          </Group>
          <Switch size="xs" label="Rounded" checked={rounded} onChange={(event) => setRounded(event.currentTarget.checked)} />
          <Group gap="xs">
            <Button size="xs" variant="default" component="a" href={address("png")} download={`${link.code}.png`}>
              PNG
            </Button>
            <Button size="xs" variant="default" component="a" href={address("svg")} download={`${link.code}.svg`}>
              SVG
            </Button>
          </Group>
        </Stack>
      </Group>
    </Panel>
  )
}
