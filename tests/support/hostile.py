"""Calls that try to break the tools: programs, SQL, patterns, JSON, answers and completions, written by grammar.

Everything is drawn from one `random.Random`, so a seed names its cases. Tests and `benchmarks/fuzz.py` share them.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from chaosops_ray.sim.tools.catalog import TOOLS
from chaosops_ray.sim.tools.model import Call

Writer = Callable[[random.Random], str]

# Tools whose work depends on a small language; they are called more often than the others.
LANGUAGES = ("python_execute", "calculator", "database_query", "text_extract")


# -- text -----------------------------------------------------------------------------------------------------------

_RANGES = (
    (0x00, 0x20),
    (0x20, 0x7F),
    (0x20, 0x7F),
    (0x7F, 0x100),
    (0x100, 0x250),
    (0x300, 0x370),
    (0x600, 0x700),
    (0x966, 0x970),
    (0x2000, 0x2070),
    (0x2100, 0x2150),
    (0x3000, 0x9FFF),
    (0xD800, 0xE000),
    (0xE000, 0xFFFF),
    (0xFB00, 0xFE00),
    (0x10000, 0x20000),
    (0x1F300, 0x1F700),
    (0xE0000, 0xE01F0),
    (0x10FF00, 0x110000),
)


def _characters(draw: random.Random, number: int) -> str:
    return "".join([chr(draw.randrange(*draw.choice(_RANGES))) for _ in range(number)])


# Drawing each character anew would take most of the time of a case.
_POOL = _characters(random.Random(0), 50_000)


def character(draw: random.Random) -> str:
    """Any character at all, surrogates and unassigned ones too."""
    return _POOL[int(draw.random() * len(_POOL))]


def any_text(draw: random.Random, longest: int = 60) -> str:
    """Any characters, a few of them many times."""
    start = int(draw.random() * len(_POOL))
    text = _POOL[start : start + int(draw.random() * longest)]
    return text * draw.choice((1, 3, 20)) if draw.random() < 0.2 else text


def meddled(draw: random.Random, text: str) -> str:
    """A text with a few characters taken out, doubled, moved or put in."""
    for _ in range(draw.choice((0, 0, 1, 1, 2, 5))):
        at = draw.randrange(len(text) + 1)
        match draw.randrange(4):
            case 0:
                text = text[:at] + text[at + draw.choice((1, 1, 4)) :]
            case 1:
                text = text[:at] + character(draw) + text[at:]
            case 2:
                text = text[:at] + draw.choice("()[]{}:,.'\"\\#=+-*/%<>!&|~^@; \n\t0123456789") + text[at:]
            case 3:
                other = draw.randrange(len(text) + 1)
                text = text[:at] + text[other : other + draw.randrange(12)] + text[at:]
    return text


# -- grammars -------------------------------------------------------------------------------------------------------

# For each symbol its productions, in which <name> stands for a symbol. Those without symbols end a derivation.
Grammar = dict[str, tuple[str, ...]]
_SYMBOL = re.compile(r"<(\w+)>")


def grammar(**productions: str) -> Grammar:
    """Read the productions of each symbol, parted by two spaces or the end of a line; \\n and \\t stand for those."""
    return {
        symbol: tuple([text.replace(r"\n", "\n").replace(r"\t", "\t") for text in re.split(r"\s\s+", listed.strip())])
        for symbol, listed in productions.items()
    }


def joined(first: Grammar, second: Grammar) -> Grammar:
    """Return a grammar with the productions of both."""
    return {symbol: first.get(symbol, ()) + second.get(symbol, ()) for symbol in (*first, *second)}


def derived(draw: random.Random, rules: Grammar, symbol: str, depth: int) -> str:
    """Derive a text from a symbol, in a tree no deeper than this where the grammar allows it."""
    productions = rules[symbol]
    if depth <= 0:
        productions = tuple([text for text in productions if not _SYMBOL.search(text)]) or productions
    text = draw.choice(productions)

    def replaced(match: re.Match[str]) -> str:
        line = text[: match.start()].rpartition("\n")[2]
        indentation = line[: len(line) - len(line.lstrip("\t"))]
        return derived(draw, rules, match[1], depth - 1).replace("\n", "\n" + indentation)

    return _SYMBOL.sub(replaced, text)


# -- programs -------------------------------------------------------------------------------------------------------

_PRELUDE = """
import math
def f(n):
    return n
i = 3
j = 1.5
s = 'ab'
t = 'a b c'
l = [3, 1, 2]
m = ['a', 'b']
p = (1, 'a')
d = {'a': 1, 2: [5]}
e = {1: 2}
g = {1, 2, 'a'}
h = {1}
"""
# What ends by itself, and comes to the same in Python: anything that is shown in another form is left out.
_TAME = grammar(
    program=r"<statements>\n<result>",
    result=r"""
        [i, j, s, t, l, m, p, list(d.items()), list(e.items()), len(g), len(h)]  [i, j, s, t, l, m, p]
        [i, j, s, l, len(d), len(g), list(e.values()), 2 in h]  (<number>, <text>, <list>, <bool>)
        [l is m, l == m, g is h, d is e, i, l, m, s, t]  <any>
    """,
    statements=r"<statement>  <statement>\n<statement>  <statement>\n<statement>\n<statement>",
    block=r"<statement>  <statement>\n<statement>  pass",
    statement=r"""
        i = <number>  j = <number>  s = <text>  t = <text>  l = <list>  m = l  d = <dict>  g = <set>  h = g  e = d
        i, j = j, <number>  i += <number>  i *= <number>  i //= 2  s += <text>  s *= 2  t = s
        l += <list>  l += <text>  l += (<number>, <any>)  l *= 2  m += l  p += (1,)
        g -= <set>  g |= <set>  g &= <set>  g ^= <set>  d |= <dict>  h -= g  e |= d
        l[<place>] += <number>  l[<place>] = <any>  d[<key>] = <any>  e[<key>] = <number>  e[1] += <number>
        l.append(<any>)  l.extend(<list>)  l.insert(0, <any>)  l.pop()  l.reverse()  l.sort()  m.remove('a')
        d.update(<dict>)  d.setdefault(<key>, <any>)  d.pop(<key>, None)  g.add(<key>)  g.discard(<key>)
        if <bool>:\n\t<block>  if <bool>:\n\t<block>\nelse:\n\t<block>
        for i in <numbers>:\n\t<block>\n\tif <bool>: <jump>\n\t<block>\nelse:\n\t<block>
        for i in range(3):\n\tfor j in range(3):\n\t\t<block>\n\t\tif <bool>: <jump>\n\telse:\n\t\t<block>\n\t<block>
        n = 0\nwhile n < 3:\n\tn += 1\n\t<block>\n\tif <bool>: <jump>\nelse:\n\t<block>
        def f(n):\n\ti = <number>\n\tif <bool>: return <any>\n\t<block>\n\treturn n
        def f(n):\n\tfor k in [1, 2, 3]:\n\t\tif k == n: return k\n\t\tif <bool>: <jump>\n\telse:\n\t\treturn -1
        def f(n):\n\tl.append(n)\n\treturn len(l)
        i = f(<number>)
    """,
    jump="break  continue",
    any="1  'a'  i  s  None  True  (1, 2)  <number>  <text>  <list>  <bool>  (<any>, <any>)  f(<any>)",
    key="1  2  'a'  'ab'  i  s  True  1.0  (1, 'a')  (i, s)  None",
    place="0  -1  1",
    number="""
        0  1  2  -1  7  10  1.5  0.1  -2.5  i  j  i  j  True
        (<number> + <number>)  (<number> - <number>)  (<number> * <number>)  (<number> / 4)  (-<number>)  2 ** 5
        (<number> // 3)  (<number> % 4)  abs(<number>)  round(<number>, 2)  int(<number>)  len(<list>)  len(<text>)
        len(d)  sum(<numbers>)  max(<numbers>)  min(<number>, <number>)  <list>.count(<any>)  <text>.find(<text>)
        [1, 2, 3].index(2)  f(<number>)  (<number> if <bool> else <number>)  math.floor(<number>)  e.get(<key>, 0)
        <numbers>[<place>]  sum([i for i in <numbers> if <bool>])
    """,
    numbers="""
        [1, 2, 3]  [3, 1, 2]  range(4)  [i, j]  [<number>, <number>, <number>]  [<number> for j in range(3)]
    """,
    text="""
        ''  'a'  'ab'  'a b c'  '7'  'é'  s  t  s  (<text> + <text>)  (<text> * 2)  <text>.upper()  <text>.title()
        <text>.strip(<text>)  <text>[:1]  <text>.replace(<text>, 'x')  <text>[::-1]  ', '.join(<texts>)
        str(<number>)  f'<{i:.2f}>'  f'{s}{j:,.1f}'  f'{t}{i}'  (<text> or <text>)  min(<text>, <text>)
    """,
    texts="['a', 'b']  [s, t]  <text>.split()  [<text>, <text>]  sorted(<texts>)",
    list="""
        []  [1]  [1, 2, 3]  ['a', 'b']  l  m  [l, m]  [1, [2]]  [<any>, <any>]  (<list> + <list>)  (<list> * 2)
        <list>[:2]  <list>[::-1]  list(<numbers>)  list(<text>)  sorted(<numbers>)
        sorted(<texts>, key=len, reverse=True)  [<any> for i in <list>]  list(zip(<list>, <text>))
        [(i, j) for i in range(2) for j in range(i + 1)]  list(enumerate(<list>))  list(d)  <list>.copy()
        [k for k in <list> if k == <any>]  list(reversed(<list>))  sorted([<number>, <number>], key=f)
    """,
    dict="""
        {}  {'a': 1}  {1: 'x', 'b': 2}  d  {<key>: <any>, <key>: <any>}  {k: k for k in <numbers>}
        dict([(<key>, <any>)])  d.copy()
    """,
    set="""
        {1, 2}  {'a'}  g  set()  {<key>, <key>}  set(<numbers>)  g.union(<set>)  g.difference(<set>)
        (<set> & <set>)  {k for k in <numbers>}
    """,
    bool="""
        True  False  i  s  l  (<number> < <number>)  (<number> == <number>)  (<text> <= <text>)  (<any> == <any>)
        (<any> in <list>)  (<key> in d)  (<key> in g)  (<text> in <text>)  (not <bool>)  (<bool> and <bool>)
        (<bool> or <bool>)  (<list> == <list>)  (<list> < <list>)  (1 < <number> <= 3)  <text>.startswith(<text>)
        <text>.isdigit()  (g <= <set>)  (d == <dict>)
    """,
)
# And what does not, above all what is small to write and large to carry out.
_MORE = grammar(
    result="l  [l, d, g]  d  g  p  str(<any>)  <name>  f'{l}{d}{s}'",
    statement=r"""
        <bomb>  <bomb>  <bomb>  <bomb>  print(<any>, <any>)  import json  <name> = <any>  <name>.<method>  <jump>
        for <name> in <any>:\n\t<block>  while <bool>:\n\t<block>  def f(n):\n\t<block>\n\t<jump>  i **= <number>
        l = json.loads(<text>)  l[<any>] = <any>  class A: pass  del l  i: int = <any>  <name> -= <any>  p += <any>
    """,
    bomb=r"""
        for k in range(<size>): l = [l, l]  for k in range(<size>): p = (p, p)  for k in range(<size>): d = {1: d, 2: d}
        for k in range(<size>): s += s  for k in range(<size>): i = i * i  for k in range(<size>): l += l  l.append(l)
        for k in range(<size>): s = f'{s}{s}'  while True: <any>  while l: l = [l]  l = l * <size>  s = s * <size>
        l = list(range(<size>))  l = range(10 ** 290, 10 ** 290 + <size>)  l = [l] * <size>  s = 'ab' * <size>
        d = {k * (2 ** 61 - 1): k for k in range(<size>)}  g = {k * (2 ** 61 - 1) for k in range(<size>)}
        s = '[' * <size>  g = {(k, k) for k in range(<size>)}  g = {str(k) for k in range(<size>)}  d = {p: d}  e = d
        l = [str(k) for k in range(<size>)]  s = '😀' * <size>  i = 2 ** 1000 * 2 ** <size>  i = 1e308 / <size>
        l = [k * 7919 % 1009 for k in range(<size>)]  l = [[k * 7919 % 1009, s] for k in range(<size>)]
        s = s.replace('a', s)  s = s.join([s, s])  while True: <statement>  for k in range(<size>): <statement>
        def f(n): return f(n) + f(n)  def f(n): return f(n + 1)  while True: l = sorted(l)  while True: l == m
        for k in range(<size>): m = [m, m]  while True: <name>.<method>  s = 'x' * 19999 + 'y'  t = 'x' * <size>
    """,
    size="3  15  40  200  900  5000  10 ** 6",
    name="i  s  l  m  p  d  e  g  h",
    any="""
        p  d  g  l  range(5)  print  <name>  <dict>  <set>  <name>[<any>]  <name>.<method>  <function>(<any>)
        <function>(<any>, <any>)  {<any>}  (<any> <operator> <any>)  lambda: 0
    """,
    operator="+  -  *  /  //  %  **  |  &  ^  <<  @  <  ==  in  is  and  or",
    function="""
        abs  bool  dict  enumerate  float  int  len  list  max  min  print  range  reversed  round  set  sorted  str
        sum  tuple  zip  f  math.log  math.sqrt  math.exp  math.sin  json.dumps  json.loads
    """,
    method="<called>()  <called>(<any>)  <called>(<any>, <any>)",
    called="""
        append  extend  insert  pop  sort  index  count  reverse  remove  copy  get  keys  values  items  update
        setdefault  add  discard  union  intersection  difference  upper  lower  title  strip  split  join  replace
        startswith  endswith  find  isdigit
    """,
    number="(<number> ** <number>)  math.sqrt(<number>)  round(<number>, <number>)  float(<text>)  <any>",
    text=r"json.dumps(<any>)  str(<any>)  f'{i:<format>}'  '<' * 20  <text> * <number>  <any>  '\d'",
    format=".99f  ,  d  %  e  s  .3g  9  {j}",
    list="sorted(<any>)  sorted(<list>, key=f)  [<any> for <name> in <any>]  [<any> for k in <any> for k in <any>]",
    dict="{<any>: <any>}  dict(<any>)  {<any>: <any> for k in <any>}",
    set="{<any>}  set(<any>)",
)
_WILD = joined(_TAME, _MORE)


def tame_program(draw: random.Random) -> str:
    """A program that ends by itself, in Python too."""
    return _PRELUDE + derived(draw, _TAME, "program", draw.choice((4, 5, 7)))


def program(draw: random.Random) -> str:
    """Any program, often one that would do much, sometimes not even a program."""
    kind = draw.random()
    if kind < 0.03:
        return any_text(draw, 200)
    if kind < 0.08:
        return overgrown(draw)
    if kind < 0.2:
        return meddled(draw, tame_program(draw))[:4000]
    text = "import json" + _PRELUDE + derived(draw, _WILD, "program", draw.choice((4, 5, 7)))
    return (meddled(draw, text) if kind < 0.4 else text)[:4000]


_SMALL = (
    "1",
    "a",
    "'a'",
    "f'{1}'",
    "[]",
    "a.b",
    "f(1)",
    "x for x in a",
    "lambda: 0",
    "not a",
    "-1",
    "1if 1else 2",
    "'\\d'",
)
_AROUND = ("({})", "[{}]", "{{{}}}", "f({})", "a[{}]", "-{}", "not {}", "{} + 1", "{},", "{}.a", "{}()", "f'{{{}}}'")


def overgrown(draw: random.Random) -> str:
    """The same thing in itself, or beside itself, until no more fits."""
    text, form = draw.choice(_SMALL), draw.choice(_AROUND)
    for _ in range(draw.choice((5, 30, 60, 150, 900))):
        if len(text) > 2000:
            break
        text = form.format(text)
    return (
        text * draw.choice((1, 2))
        if draw.random() < 0.5
        else (text + draw.choice(";\n,+ ")) * (4000 // (len(text) + 1))
    )


_OPERATORS = ("+", "-", "*", "/", "//", "%", "**", "|", "<")


def expression(draw: random.Random) -> str:
    """Arithmetic, mostly."""
    kind = draw.random()
    if kind < 0.1:
        return any_text(draw)
    if kind < 0.2:
        return overgrown(draw)
    if kind < 0.4:
        return meddled(draw, derived(draw, _WILD, "number", 5))
    parts = [str(draw.choice((0, 1, 2, 3, 7, 1.5, 1e308, 10**18, 9))) for _ in range(draw.randrange(1, 9))]
    return meddled(draw, "".join([f"{part} {draw.choice(_OPERATORS)} " for part in parts]) + "2")


# -- SQL ------------------------------------------------------------------------------------------------------------

_SQL = grammar(
    statement="""
        <select>  <select>  <select>  <select>  <select> <compound> <select>  with t as (<select>) <outer>
        with t as (<select>), u(x) as (<select>) <outer>  <hostile>
    """,
    select="""
        select <columns> from <source> <where> <group> <order> <limit>  select <columns> from <source> <where>
        select <columns> from <source> <order>  select name from countries
    """,
    outer="select <columns> from t <where>  select <columns> from t, u  select * from t join u  select max(x) from u",
    compound="union  union all  except  intersect",
    columns="""
        *  name  count(*)  <value>  <value> as x  <value> x, <value> y  <value>, <value>, <value>  <aggregate>
    """,
    source="""
        countries  countries  countries  financials  countries a  countries a, countries b  sqlite_master
        <source>, <source>  <source> join <source> on <condition>  <source> left join <source>  (<select>) c  (<select>)
        <source> natural join <source>  (values (1, 2), (3, 4))  pragma_table_info('countries')
    """,
    where="where 1  where <condition>  where <condition> and <condition>  where <condition> or <condition>",
    group="group by 1  group by <value>  group by <column>, 1 having <condition>",
    order="order by 1  order by <value> desc  order by x, 1  order by <value> collate nocase nulls last",
    limit="limit 9  limit 1  limit -1  limit 5 offset 2  limit <value>",
    column="""
        name  capital  population  area_km2  gdp_usd  gdp_per_capita  x  y  a.name  b.population  rowid  company
    """,
    value="""
        name  population  <column>  1  2.5  'a'  '<long>'  null  x'00ff'  ?1  -1  9223372036854775807  1e308
        (<value> <operator> <value>)  <function>  <function>  case when <condition> then <value> else <value> end
        cast(<value> as <type>)  (<select>)  (- <value>)  (not <value>)  <value> collate nocase
    """,
    operator="+  -  *  /  %  ||  <<  &  =  <  and  or  is  ->>  like  glob",
    type="text  integer  real  blob  numeric",
    long=f"aaaaaaaaa  {'a' * 90}  {'a' * 190}  {'é' * 90}  %a%a%a%a%a%b  %{'a' * 18}b  '' or 1 = '",
    condition=f"""
        name = 'Germany'  <value> = <value>  <value> > <value>  <value> like '<long>'  <value> in (<value>, <value>, 1)
        <value> in (<select>)  exists (<select>)  <value> between <value> and <value>  <value> is not null
        (<value>, <value>) in (<select>)  <value> in ({", ".join("1" * 60)})  not <condition>
    """,
    aggregate="""
        count(distinct <column>)  sum(<value>)  avg(<value>)  max(<value>)  total(<value>)  group_concat(<column>)
        sum(<value>) over (order by <column>)
    """,
    function="""
        abs(<value>)  length(<value>)  lower(<value>)  upper(<value>)  trim(<value>)  trim(<value>, <value>)
        replace(<value>, <value>, <value>)  substr(<value>, 2, 3)  instr(<value>, <value>)  round(<value>, 2)
        coalesce(<value>, 1)  max(<value>, <value>)  typeof(<value>)  ifnull(<value>, 0)  iif(<condition>, 1, <value>)
        unicode(<value>)  <aggregate>  <forbidden>
    """,
    forbidden="""
        printf('%999999d', <value>)  zeroblob(<value>)  randomblob(9)  hex(<value>)  random()  date('now')
        strftime('%s', 'now')  json_group_array(<value>)  json_extract(<value>, '$')  load_extension(<value>)
        sqlite_version()  current_timestamp
    """,
    hostile=f"""
        attach '/tmp/x' as y  pragma table_info(countries)  pragma hard_heap_limit=1  insert into countries values (1)
        with recursive n(i) as (select 1 union all select i + 1 from n) select * from n  select 1; select 2  vacuum
        with n(i) as (values (1) union all select i + 1 from n) select * from n  explain select 1  select <value> from t
        select {"(" * 60}1{")" * 60}  select 1 from {", ".join(["countries"] * 40)}  select 1 <hostile>
        select 1 from {" natural join ".join(["countries"] * 9)}  select 1 from {", ".join(["(values (1), (2))"] * 40)}
        select {", ".join(["sum(population) over ()"] * 30)} from countries
    """,
)


def sql(draw: random.Random) -> str:
    """Any statement, mostly a SELECT."""
    kind = draw.random()
    if kind < 0.04:
        return any_text(draw, 200)
    if kind < 0.15:
        return meddled(draw, _multiplying(draw))
    text = derived(draw, _SQL, "statement", draw.choice((3, 4, 6)))
    return meddled(draw, text) if kind < 0.3 else text


def _multiplying(draw: random.Random) -> str:
    """A statement whose parts stand in one another's place, again and again."""
    levels, width = draw.choice((2, 3, 4, 8, 20)), draw.choice((1, 2, 3, 8))
    if draw.random() < 0.5:
        tables = ["t0 as (select 1 as x)"]
        for level in range(1, levels):
            column = draw.choice(("1", "count(*)", "a.x", "*", "x + x"))
            tables.append(f"t{level} as (select {column} from {', '.join([f't{level - 1}'] * width)} a)")
        return f"with {', '.join(tables)} select x from t{levels - 1}"
    text = "select area_km2 as x from countries"
    for _ in range(levels):
        text = f"select {' + '.join(['x'] * width)} as x from ({text})"
    return text


# -- patterns, JSON, answers ----------------------------------------------------------------------------------------

_SYMBOLS = tuple(
    r"""
    a a b 1 _ - ^ $ . * + ? { } ( ) [ ] | \ , : # < > P = ! é (?: (?P<a> (?P<b> (?#c) (a) {2} {1,2} {,3} {2,} {1 {999}
    \d \w \s \D \S \W \b \B \A \Z *? +? ?? [a-c] [^a] []a] [[a] [^]a] [\d_] [\b] [a\-c] [-a] [\w-a] [\1] \x61 \u0062
    \U00000061 \101 \0 \1 \t \n \q \x6 \N{ASTERISK} (?i) (?= (?<! (?> (?(1) (?z) .* .*? (a+)+ (a|aa)* (a*)* [^\x00] \d+
    [\w\s\d\W] [&&] [a--b] [a||b] [a~~b]
    """.split()  # noqa: SIM905 - a list of them is not readable
)


def pattern(draw: random.Random) -> str:
    """Symbols of a regular expression, well formed together or not."""
    if draw.random() < 0.05:
        return any_text(draw)
    text = "".join([draw.choice(_SYMBOLS) for _ in range(draw.choice((1, 3, 6, 12, 40)))])
    for _ in range(draw.choice((0, 0, 0, 1, 5, 25))):
        text = draw.choice(("({})", "(?:{})*", "({})+", "{}|a", "[^{}]", "({}){{3}}")).format(text)
    return text


def searched(draw: random.Random) -> str:
    """A text to search."""
    kind = draw.random()
    if kind < 0.4:
        return draw.choice(("a", "ab", "1,", "1,111", "a ", "é", "aab1_ \nc-", "\U0001f600")) * draw.choice(
            (1, 9, 60, 900)
        )
    return any_text(draw) if kind < 0.6 else sentence(draw)


def sentence(draw: random.Random) -> str:
    """Words and figures of the world."""
    words = (
        *("Germany", "Berlin", "NovaTech", "population of 83,200,000", "revenue", "1.87 billion", "GDP", "the", "is"),
        *(
            "New Delhi",
            "accurate",
            "no",
            "2026-04-08",
            "1,111,111",
            "٣٤",
            "½",
            "-5",
            "e",
            "1e9",
            "NaN",
            "\x00",
            "<|im_end|>",
        ),
    )
    return draw.choice((" ", " ", ", ", "\n", "")).join([draw.choice(words) for _ in range(draw.randrange(1, 14))])


def answer(draw: random.Random) -> str:
    """An answer, right or odd."""
    kind = draw.random()
    if kind < 0.3:
        return any_text(draw)
    number = draw.choice(("83.2", "1,234,567", "9" * 30, "1.87", "-0", "+5", "1e5", "٣", "²"))
    unit = draw.choice(
        ("million", "billion", "thousand", "bn", "M", "k", "", "B", "mıllion", "thouſand", "K", "mİllion")
    )
    return draw.choice((f"{number} {unit}", f"{number}{unit} " * draw.choice((2, 150)), f"{sentence(draw)} {number}"))


def value(draw: random.Random, depth: int = 3) -> Any:
    """A JSON value."""
    match draw.randrange(9 if depth else 6):
        case 0:
            return draw.choice((0, 1, -1, 3.5, 10**17, 10**30, 1e308, 0.1))
        case 1:
            return draw.choice((True, False, None))
        case 2 | 3:
            return draw.choice(("", "a", "name", "number", "string", "boolean", "Germany", sentence(draw)))
        case 4:
            return any_text(draw, 12)
        case 5:
            return draw.choice((5, 83_200_000, 1.87))
        case 6 | 7:
            names = [draw.choice(("a", "n", "name", "rows", any_text(draw, 5))) for _ in range(draw.randrange(4))]
            return {name: value(draw, depth - 1) for name in names}
    return [value(draw, depth - 1) for _ in range(draw.choice((0, 1, 3, 8)))]


def json_text(draw: random.Random) -> str:
    """JSON, or nearly."""
    kind = draw.random()
    if kind < 0.1:
        deep = draw.choice((3, 16, 17, 63, 64, 65, 400, 900, 1500))
        return draw.choice(('{"a":' * deep + "1" + "}" * deep, "[" * deep + "]" * deep, "[" * deep, '{"a":[' * deep))[
            :4000
        ]
    if kind < 0.2:
        return draw.choice(
            (
                "9" * draw.choice((17, 400, 601, 3999)),
                "-" + "9" * 4000,
                "1" + "0" * 300 + ".5",
                "1e999",
                "NaN",
                '{"a": NaN}',
                "[Infinity]",
                '{"a": 1, "a": 2}',
                '"\\ud800"',
                '"\ud800"',
                "\ufeff{}",
                "[" + "1," * 1900 + "1]",
                "[" + '{"n":1},' * 450 + '{"n":1}]',
                '[{"n": 1e308}, {"n": 1e308}]',
                '{"a": {"rows": [[]]}}',
                '{"columns": [], "rows": [[1]]}',
                '{"name": "x", "population": 1e999}',
                '{"name": "' + "x" * 900 + '"}',
            )
        )
    if kind < 0.3:
        return json.dumps({"a": value(draw), "n": 5, "name": "x", "rows": [[1, "a"], []]})
    if kind < 0.5:
        rows = [
            {"n": draw.choice((1, 2.5, -3, 10**18, 1e300)), "name": draw.choice("abc")}
            for _ in range(draw.randrange(9))
        ]
        return meddled(draw, json.dumps(rows))
    if kind < 0.6:
        columns = draw.sample(("name", "capital", "population", "area_km2", "company", "quarter"), 3)
        columns = columns if draw.random() < 0.3 else ["name", "population"]
        return json.dumps({column: draw.choice((1, 2.5, "Oz", "Oz", "é" * 90, True, 2**63)) for column in columns})
    return meddled(draw, json.dumps(value(draw), ensure_ascii=draw.random() < 0.5))


def _path(draw: random.Random) -> str:
    if draw.random() < 0.5:
        return draw.choice(("a", "n", "name", "rows[0]", "rows[0][1]", "[0]", "[0].n", "a.a", "a[0]"))
    parts = [
        draw.choice(("a", "name", "n", "rows", "[0]", "[1]", "[9999]", "items[0]", ".", "["))
        for _ in range(draw.randrange(6))
    ]
    return draw.choice((".", "")).join(parts)


def _one_of(*texts: str) -> Writer:
    def write(draw: random.Random) -> str:
        kind = draw.random()
        if kind < 0.1:
            return draw.choice((any_text, sentence))(draw)
        return meddled(draw, draw.choice(texts)) if kind < 0.3 else draw.choice(texts)

    return write


# By the name of an argument.
WRITERS: dict[str, Writer] = {
    "sql": sql,
    "code": program,
    "expression": expression,
    "pattern": pattern,
    "text": searched,
    "data": json_text,
    "schema": _one_of(
        '{"n": "number", "name": "string"}', '{"a": "boolean"}', '{"a": []}', '{"a": {"b": 1}}', "{}", "[]"
    ),
    "operation": _one_of("count", "sort:n", "sum:n", "avg:n", "min:n", "max:n", "filter:name=a", "filter:=", "sum:"),
    "path": _one_of("countries.txt", "companies.txt", "notes/a.md", "../../etc/passwd", "a.txt", "con.json", ""),
    "url": _one_of(
        "https://atlas.example/germany",
        "https://press.example/novatech",
        "internal://entity/NovaTech",
        "internal://document/overview-germany",
        "file:///etc/passwd",
        "https://atlas.example/" + "a/" * 500,
        "internal://document/-",
        "https://" + "atlas.example." * 200,
    ),
    "method": _one_of("GET", "GET", "POST", ""),
    "timezone": _one_of("UTC", "Asia/Tokyo", "America/New_York", "Mars/Olympus"),
    "target_language": _one_of("de", "fr", "es", "tlh"),
    "table": _one_of("countries", "financials", "countries; drop table countries"),
    "time": _one_of("2026-04-09T08:00Z", "2026-19-39T29:59Z", "tomorrow"),
    "ticket_id": _one_of("OPS-12", "OPS-0000000", "ops-1"),
    "expected_hash": _one_of("0" * 64, "f" * 63, "é" * 64),
    "answer": answer,
    "query": lambda draw: draw.choice((_path, sentence, any_text))(draw),
}


def argument(draw: random.Random, name: str, kind: str) -> Any:
    """A value for an argument, mostly of the kind that it takes."""
    odd = draw.random()
    if odd < 0.03:
        return value(draw)
    if kind == "number" or (kind == "scalar" and odd < 0.4):
        return draw.choice((0, 1, 0.01, -1, 5, 1e308, 10**17, -0.0, 83_200_000))
    writer = WRITERS.get(name)
    if writer is None or odd > 0.95:
        writer = draw.choice((sentence, any_text, searched, answer))
    return writer(draw)


def call(draw: random.Random, tools: Sequence[str] = tuple(TOOLS)) -> Call:
    """A call of one of these tools, with arguments that mostly fit it."""
    tool = TOOLS[draw.choice(tools)]
    arguments = {
        parameter.name: argument(draw, parameter.name, parameter.kind)
        for parameter in tool.parameters
        if draw.random() > 0.03
    }
    if draw.random() < 0.02:
        arguments[any_text(draw, 8)] = 1
    return Call(tool.name, json.dumps(arguments, sort_keys=True, separators=(",", ":")))


def completion(draw: random.Random) -> str:
    """A completion: a call in full or in a line, with text around it, or nothing like a call."""
    kind = draw.random()
    if kind < 0.2:
        return any_text(draw, 400)
    if kind < 0.3:
        opening = draw.choice(
            ("{", '{"tool":', '{"a":[', '{"', "x{", '":' + " " * 45 + "{", '{"tool": "x", "arguments": {', "[", "}")
        )
        return (opening * draw.choice((5, 64, 65, 3000)))[: draw.choice((900, 16_384, 16_385))]
    made = call(draw, SPOKEN)
    arguments = json.loads(made.arguments)
    if kind < 0.4:
        text = f"{made.tool} {made.arguments}"
    else:
        fields: dict[str, Any] = {"tool": made.tool, "arguments": arguments}
        if draw.random() < 0.1:
            fields[draw.choice(("reason", "args", any_text(draw, 5)))] = value(draw)
        text = json.dumps(fields, ensure_ascii=draw.random() < 0.5)
    around = draw.choice(
        ("{}", "I think {{}}.\n```json\n{}\n```", "{}\n{}", "{{{}}}", "<think>{{ {}", "{} trailing")
    ).format
    return meddled(draw, around(text, text))


# In completions, calls that cost little: what is tried there is how they are read.
SPOKEN = tuple(name for name in TOOLS if name not in LANGUAGES)
