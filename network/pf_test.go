package network

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

var update = flag.Bool("update", false, "write testdata anew")

func testBridge(name string, nets ...string) bridge {
	b := bridge{name: name, masquerade: true, names: true}
	for _, n := range nets {
		p := netip.MustParsePrefix(n)
		b.nets, b.gateways = append(b.nets, p), append(b.gateways, p.Addr().Next())
	}
	return b
}

func testForward(proto, host string, hostPort uint16, to string, port uint16) forward {
	b := brig.PortBinding{Port: brig.Port{Number: port, Proto: proto}, HostIP: host, HostPort: hostPort}
	return forward{b, netip.MustParseAddr(host), netip.MustParseAddr(to)}
}

// The rules of every kind of network, as they were loaded into the pf of a FreeBSD where docs/freebsd.md says so.
func TestPfRules(t *testing.T) {
	plain := testBridge("brig-1a2b3c4d", "172.17.0.0/16")
	plain.names = false
	both := testBridge("br1a2b-01234567", "172.18.0.0/16", "fd00:18::/64")
	inner := testBridge("br1a2b-89abcdef", "172.19.0.0/16", "fd00:19::/64")
	inner.internal = true
	routed := testBridge("mine0", "10.9.0.0/24")
	routed.masquerade = false
	p := pfPlan{instance: "1a2b3c4d", bridges: []bridge{plain, both, inner, routed}, outward: map[bool][]string{true: {"em0", "wlan0"}, false: {"em0"}},
		forwards: []forward{
			testForward("tcp", "192.0.2.1", 8080, "172.18.0.2", 80),
			testForward("tcp", "127.0.0.1", 8081, "172.18.0.2", 80),
			testForward("tcp", "0.0.0.0", 80, "172.17.0.2", 8000),
			testForward("udp", "0.0.0.0", 53, "172.18.0.2", 5353),
			testForward("tcp", "::", 80, "172.17.0.2", 8000), // crosses: relayed
			testForward("tcp", "::", 8443, "fd00:18::2", 443),
			testForward("tcp", "::1", 8444, "fd00:18::2", 443), // relayed
			testForward("sctp", "0.0.0.0", 9, "172.17.0.2", 9), // pf can't
		}}
	for name, local := range map[string]bool{"remote": false, "local": true} {
		p.local = local
		got, err := p.text()
		if err != nil {
			t.Fatal(err)
		}
		file := "testdata/pf-" + name + ".conf"
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\n%s\nnot\n%s", file, got, want)
		}
	}
	if text, err := (&pfPlan{instance: "1a2b3c4d"}).text(); text != "" || err != nil {
		t.Errorf("without networks: %q, %v", text, err)
	}
}

// Names that others choose can say nothing in pf.conf's language.
func TestPfTakesNoNameForARule(t *testing.T) {
	for _, name := range []string{"", `a"b`, "a b", "a\nb", "a\npass all", "$x", "<t>", "{", "a#b", "-a", "0a", "a,b", "a(b", "a\\b", "ünix", "sixteencharacter"} {
		p := pfPlan{instance: "1a2b3c4d", bridges: []bridge{testBridge(name, "10.0.0.0/24")}}
		if text, err := p.text(); err == nil || errs.KindOf(err) != errs.Invalid {
			t.Errorf("bridge %q: %v\n%s", name, err, text)
		}
		p = pfPlan{instance: "1a2b3c4d", bridges: []bridge{testBridge("br0", "10.0.0.0/24")}, outward: map[bool][]string{true: {name}}}
		if text, err := p.text(); err != nil || strings.Contains(text, "from <masked_inet> to any") {
			t.Errorf("interface %q: %v\n%s", name, err, text)
		}
		if p = (pfPlan{instance: name + `"`}); true {
			if text, err := p.text(); err == nil {
				t.Errorf("instance %q is taken\n%s", name, text)
			}
		}
	}
	p := pfPlan{instance: "1a2b3c4d", bridges: []bridge{testBridge("br0", "10.0.0.0/24")},
		forwards: []forward{testForward("tcp", "fe80::1%em0\npass all", 1, "fe80::2%a b", 2)}}
	if text, err := p.text(); err != nil || strings.Contains(text, "pass all") || strings.Contains(text, "%") {
		t.Errorf("zones: %v\n%s", err, text)
	}
}

func TestGroupOf(t *testing.T) {
	for _, name := range []string{"brig-1a2b3c4d", "br1a2b-01234567", "x"} {
		if g := groupOf(name); len(g) > 15 || strings.ContainsAny(g[len(g)-1:], "0123456789") || g != groupOf(name) || g == groupOf(name+"y") {
			t.Errorf("%s: %q", name, g)
		}
	}
}

// packet comes in by an interface, which is in groups. A reading of the rules says what becomes of it.
type packet struct {
	in       string
	groups   []string
	proto    string
	src, dst netip.Addr
	port     uint16
	tag      string
}

// reading is pf as pf.conf(5) describes it, as far as the rules here need it: the first rdr that fits leads, the last rule that fits decides
// unless one is quick, and without one the packet passes.
type reading struct {
	t      *testing.T
	tables map[string][]string
	rdr    []map[string]string
	filter []map[string]string
	self   []netip.Addr
}

var (
	reTable = regexp.MustCompile(`^table (<[a-z0-9_]+>) const \{ ([0-9a-f.:/!, ]+) \}$`)
	reNAT   = regexp.MustCompile(`^nat on "[\w.-]+" (inet|inet6) from \S+ to \S+( tag "\w+"| tagged "\w+")? -> (\("[\w.-]+:0"\)|[0-9a-f.:]+)$`)
	reRdr   = regexp.MustCompile(`^rdr (?:on (?P<not>! )?"(?P<on>[\w.-]+)" )?(?P<af>inet6?) proto (?P<proto>tcp|udp) from any to (?P<to>\(self\)|[0-9a-f.:]+) port (?P<port>\d+) tag "(?P<tag>\w+)" -> (?P<dst>[0-9a-f.:]+) port (?P<dport>\d+)$`)
	reNoRdr = regexp.MustCompile(`^no rdr on "(?P<on>[\w.-]+)" (?P<af>inet6?) proto (?P<proto>\{ tcp, udp \}|tcp) from any to (?P<to>[0-9a-f.:]+) port (?P<port>53|1104)$`)
	reRule  = regexp.MustCompile(`^(?P<act>block drop|pass)(?: (?P<dir>in|out))?(?P<quick> quick)?(?: on (?P<not>! )?"(?P<on>[\w.-]+)")? (?P<af>inet6?)(?: proto (?P<proto>\{ tcp, udp \}|tcp|ipv6-icmp))? from (?P<nfrom>! )?(?P<from>\S+) to (?P<nto>! )?(?P<to>\S+)(?: port (?P<port>\d+))?(?: (?P<ntag>! )?tagged "(?P<tag>\w+)")?(?: no state)?$`)
)

func read(t *testing.T, text string, self ...netip.Addr) *reading {
	t.Helper()
	r := &reading{t: t, tables: map[string][]string{}, self: self}
	named := func(re *regexp.Regexp, line string) map[string]string {
		m := re.FindStringSubmatch(line)
		if m == nil {
			return nil
		}
		out := map[string]string{"line": line}
		for i, n := range re.SubexpNames() {
			if n != "" {
				out[n] = m[i]
			}
		}
		return out
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := reTable.FindStringSubmatch(line); m != nil {
			r.tables[m[1]] = strings.Split(m[2], ", ")
		} else if m := named(reRdr, line); m != nil {
			r.rdr = append(r.rdr, m)
		} else if m := named(reNoRdr, line); m != nil {
			r.rdr = append(r.rdr, m)
		} else if m := named(reRule, line); m != nil {
			r.filter = append(r.filter, m)
		} else if !reNAT.MatchString(line) {
			t.Fatalf("a line that is no rule of ours: %q", line)
		}
	}
	return r
}

// is tells whether an address is what a rule names.
func (r *reading) is(a netip.Addr, what string) bool {
	switch {
	case what == "any":
		return true
	case what == "(self)":
		return slices.Contains(r.self, a)
	case strings.HasPrefix(what, "<"):
		best, in := -1, false // the longest prefix decides
		if r.tables[what] == nil {
			r.t.Fatalf("there is no table %s", what)
		}
		for _, e := range r.tables[what] {
			text, not := strings.CutPrefix(e, "!")
			if p := prefixOf(r.t, text); p.Contains(a) && p.Bits() > best {
				best, in = p.Bits(), !not
			}
		}
		return in
	}
	return prefixOf(r.t, what).Contains(a)
}

func prefixOf(t *testing.T, s string) netip.Prefix {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatalf("no address: %q", s)
	}
	return netip.PrefixFrom(a, a.BitLen())
}

func (p *packet) on(rule map[string]string) bool {
	if rule["on"] == "" {
		return true
	}
	return (p.in == rule["on"] || slices.Contains(p.groups, rule["on"])) == (rule["not"] == "")
}

// enters says where a packet goes that comes in, and whether it passes.
func (r *reading) enters(p packet) (packet, bool) { return r.moves(p, false) }

// moves says it of a packet that comes in, or leaves.
func (r *reading) moves(p packet, out bool) (packet, bool) {
	af := map[bool]string{true: "inet", false: "inet6"}[p.dst.Is4()]
	for _, x := range r.rdr {
		if !out && x["af"] == af && p.on(x) && strings.Contains(x["proto"], p.proto) && x["port"] == fmt.Sprint(p.port) && r.is(p.dst, x["to"]) {
			if x["dst"] == "" {
				break
			}
			p.tag, p.dst = x["tag"], netip.MustParseAddr(x["dst"])
			fmt.Sscan(x["dport"], &p.port)
			break
		}
	}
	pass := true
	for _, x := range r.filter {
		fits := x["dir"] != map[bool]string{true: "in", false: "out"}[out] && x["af"] == af && p.on(x) && (x["proto"] == "" || strings.Contains(x["proto"], p.proto)) &&
			(x["port"] == "" || x["port"] == fmt.Sprint(p.port)) && r.is(p.src, x["from"]) == (x["nfrom"] == "") && r.is(p.dst, x["to"]) == (x["nto"] == "") &&
			(x["tag"] == "" || (x["tag"] == p.tag) == (x["ntag"] == ""))
		if fits {
			if pass = x["act"] == "pass"; x["quick"] != "" {
				break
			}
		}
	}
	return p, pass
}

// Whatever is published, exactly that is reached from outside and from other networks; internal networks have nothing to do with others.
func TestPfOpensWhatIsPublishedAlone(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 6))
		world := randomPlan(rng)
		text, err := world.text()
		if err != nil {
			t.Fatal(err)
		}
		host := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}
		self := slices.Clone(host)
		for _, b := range world.bridges {
			self = append(self, b.gateways...)
		}
		r := read(t, text, self...)
		if !world.holds(t, r, rng, host) {
			t.Fatalf("seed %d:\n%s", seed, text)
		}
	}
}

// randomPlan has a few networks with some containers' ports published.
func randomPlan(rng *rand.Rand) *pfPlan {
	p := &pfPlan{instance: "1a2b3c4d", outward: map[bool][]string{true: {"em0"}, false: {"em0"}}, local: rng.IntN(2) == 0}
	for i := range 1 + rng.IntN(4) {
		b := testBridge(fmt.Sprintf("br1a2b-%08x", i), fmt.Sprintf("10.%d.0.0/16", i), fmt.Sprintf("fd00:%x::/64", i))
		b.internal, b.masquerade, b.names = rng.IntN(4) == 0, rng.IntN(4) != 0, rng.IntN(2) == 0
		p.bridges = append(p.bridges, b)
	}
	used := map[string]bool{}
	for range rng.IntN(8) {
		b := p.bridges[rng.IntN(len(p.bridges))]
		if b.internal {
			continue
		}
		is4 := rng.IntN(2) == 0
		host, to := "0.0.0.0", b.nets[0].Addr().Next().Next()
		if !is4 {
			host, to = "::", b.nets[1].Addr().Next().Next()
		}
		f := testForward([]string{"tcp", "udp"}[rng.IntN(2)], host, []uint16{53, metadataPort, uint16(1000 + rng.IntN(20))}[min(2, rng.IntN(9))], to.String(), uint16(1+rng.IntN(20)))
		if key := fmt.Sprint(f.Proto, f.HostPort, is4); !used[key] {
			used[key] = true
			p.forwards = append(p.forwards, f)
		}
	}
	return p
}

func (p *pfPlan) holds(t *testing.T, r *reading, rng *rand.Rand, host []netip.Addr) bool {
	outside := map[bool]netip.Addr{true: netip.MustParseAddr("198.51.100.7"), false: netip.MustParseAddr("2001:db8:7::7")}
	ok := true
	bad := func(format string, args ...any) { ok = false; t.Errorf(format, args...) }
	for _, f := range p.forwards {
		at := host[0]
		if f.host.Is6() {
			at = host[1]
		}
		from := []packet{{in: "em0", src: outside[f.host.Is4()]}}
		for i := range p.bridges {
			if b := &p.bridges[i]; !b.internal { // a container of any network, the target's own too, at the host's address
				from = append(from, packet{in: b.name, groups: []string{groupOf(b.name)}, src: b.of(f.host.Is4()).Addr().Next().Next().Next()})
			}
		}
		for _, k := range from {
			k.proto, k.dst, k.port = f.Proto, at, f.HostPort
			if got, pass := r.enters(k); !pass || got.dst != f.to || got.port != f.Number {
				bad("%v published as %d: from %s it goes to %s:%d, passes: %t", f.Port, f.HostPort, k.in, got.dst, got.port, pass)
			}
		}
	}
	for range 200 { // anything else
		b := &p.bridges[rng.IntN(len(p.bridges))]
		is4 := rng.IntN(2) == 0
		k := packet{in: "em0", src: outside[is4], proto: []string{"tcp", "udp", "icmp"}[rng.IntN(3)], port: uint16(1 + rng.IntN(1100)), dst: b.of(is4).Addr().Next().Next()}
		from := &bridge{}
		if rng.IntN(2) == 0 {
			from = &p.bridges[rng.IntN(len(p.bridges))]
			k.in, k.groups, k.src = from.name, []string{groupOf(from.name)}, from.of(is4).Addr().Next().Next().Next()
			if rng.IntN(2) == 0 {
				k.in = "v1a2b-00000001" // between members of the bridge
			}
		}
		got, pass := r.enters(k)
		if got.dst != k.dst || pass != (from == b || k.groups != nil && from.name == b.name) {
			bad("%+v to a container in %s: to %s, passes: %t", k, b.name, got.dst, pass)
		}
		if from.internal {
			k.dst = outside[is4]
			if _, pass := r.enters(k); pass {
				bad("%+v leaves an internal network", k)
			}
			k.dst = host[map[bool]int{true: 0, false: 1}[is4]]
			if _, pass := r.enters(k); pass {
				bad("%+v leaves an internal network for the host", k)
			}
		}
		k.dst = b.gateways[map[bool]int{true: 0, false: 1}[is4]]
		if got, pass := r.enters(k); !slices.ContainsFunc(p.forwards, func(f forward) bool { return f.HostPort == k.port }) && (!pass || got.dst != k.dst) && !from.internal && !b.internal {
			bad("%+v does not reach the gateway", k)
		}
		if k.port = 53; from == b && b.names && k.proto != "icmp" {
			if got, pass := r.enters(k); !pass || got.dst != k.dst {
				bad("%+v asks for names and reaches %s, passes: %t", k, got.dst, pass)
			}
		}
		if k.port, k.proto = metadataPort, "tcp"; from == b {
			if got, pass := r.enters(k); !pass || got.dst != k.dst {
				bad("%+v asks for its metadata and reaches %s, passes: %t", k, got.dst, pass)
			}
		}
	}
	return ok
}
