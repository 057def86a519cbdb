import { Button, CloseButton, ColorInput, FileButton, Group, Image, NumberInput, SegmentedControl, Stack, Switch, Text } from "@mantine/core"
import { useDebouncedValue } from "@mantine/hooks"
import { useEffect, useState } from "react"
import { apiBlob, type Problem } from "../../api"
import { Panel } from "../../parts/Panel"
import { Told } from "../../parts/Told"
import type { Link } from "./types"

type Drawn = { svg: string; png: string }

/** The code with a picture in its middle, as addresses of what the server drew; undefined without a picture. */
function useLogo(path: (format: string) => string, logo: File | null) {
  const [drawn, setDrawn] = useState<Drawn>()
  const [error, setError] = useState<Problem>()
  const [svg, png] = [path("svg"), path("png")]
  useEffect(() => {
    setError(undefined)
    setDrawn(undefined)
    if (!logo) return
    const made: string[] = []
    const stop = new AbortController()
    const draw = async (at: string) => {
      const address = URL.createObjectURL(await apiBlob(at, { method: "POST", raw: logo, signal: stop.signal }))
      made.push(address)
      return address
    }
    Promise.all([draw(svg), draw(png)]).then(
      ([svg, png]) => stop.signal.aborted || setDrawn({ svg: svg!, png: png! }),
      (reason) => reason.name !== "AbortError" && setError(reason as Problem),
    )
    return () => {
      stop.abort()
      made.forEach((address) => URL.revokeObjectURL(address))
    }
  }, [svg, png, logo])
  return { drawn, error }
}

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
  const [logo, setLogo] = useState<File | null>(null)
  const address = (format: string) => `/api/links/links/${link.id}/qr?${asked}&format=${format}`
  const { drawn, error } = useLogo(address, logo)
  const shown: Drawn = drawn ?? { svg: address("svg"), png: address("png") }
  return (
    <Panel title="QR code" hint="Scans of it are counted apart from clicks.">
      <Group align="flex-start" gap="lg">
        <Image src={shown.svg} alt={`QR code of ${link.short_url}`} w={200} h={200} fit="contain" data-testid="qr" />
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
            <FileButton accept="image/png,image/jpeg,image/webp,image/gif" onChange={setLogo}>
              {(props) => (
                <Button size="xs" variant="default" {...props}>
                  Logo
                </Button>
              )}
            </FileButton>
            {logo && <CloseButton size="sm" aria-label="Without the logo" onClick={() => setLogo(null)} />}
          </Group>
          <Told problem={error} />
          <Group gap="xs">
            <Button size="xs" variant="default" component="a" href={shown.png} download={`${link.code}.png`}>
              PNG
            </Button>
            <Button size="xs" variant="default" component="a" href={shown.svg} download={`${link.code}.svg`}>
              SVG
            </Button>
          </Group>
        </Stack>
      </Group>
    </Panel>
  )
}
