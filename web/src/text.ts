/** A number and what it counts: "1 click", "2 clicks". */
export const many = (count: number, one: string) => `${count.toLocaleString()} ${one}${count === 1 ? "" : "s"}`
