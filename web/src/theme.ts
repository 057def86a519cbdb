import { createTheme, type MantineColorsTuple } from "@mantine/core"

/** Brass: the colour of a mainspring, used for what can be acted on and nothing else. */
const brass: MantineColorsTuple = [
  "#fdf6e7", "#f8ebcd", "#f0d69b", "#e8bf65", "#e1ac3a", "#dda01f", "#db9a10", "#b7791f", "#966413", "#6f4a0c",
]

export const theme = createTheme({
  primaryColor: "brass",
  primaryShade: { light: 7, dark: 5 },
  colors: { brass },
  autoContrast: true,
  defaultRadius: "md",
  fontFamily: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif",
  fontFamilyMonospace: "ui-monospace, 'SF Mono', 'Cascadia Code', 'Source Code Pro', Menlo, Consolas, monospace",
  headings: { fontWeight: "620" },
  cursorType: "pointer",
})
