package keeper

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// testView is a container in two networks with a link.
func testView(more func(*Resolver)) *view {
	var many []netip.Addr
	for i := range 60 {
		many = append(many, netip.AddrFrom4([4]byte{10, 3, 0, byte(i)}))
	}
	zones := map[string]*zone{
		"n1": newZone(Zone{"n1", "Front", []Name{
			{"web", addrs("10.1.0.2")}, {"alias", addrs("10.1.0.2", "fd00::2")}, {"svc", addrs("10.1.0.3", "10.1.0.4", "10.1.0.5")}, {"a.b", addrs("10.1.0.6")}, {"many", many},
			{"six", addrs("fd00::6")}, {"both", addrs("10.1.0.7")},
		}}, nil),
		"n2": newZone(Zone{"n2", "back.end", []Name{{"db", addrs("10.2.0.2")}, {"web", addrs("10.2.0.3")}, {"both", addrs("fd00::7")}}}, nil),
		"n3": newZone(Zone{"n3", "foreign", []Name{{"secret", addrs("10.4.0.2")}}}, nil),
	}
	want := Resolver{Networks: []string{"n1", "n2"}, Names: []Name{{"link", addrs("10.1.0.9")}, {"db", addrs("10.2.0.9")}}, Servers: []string{"192.0.2.1"}}
	if more != nil {
		more(&want)
	}
	r := new(resolver)
	if err := r.look(want, zones); err != nil {
		panic(err)
	}
	return r.view.Load()
}

// ask gives the answer to one question in one line; "forward" if others have to be asked.
func (v *view) ask(t testing.TB, name string, qtype uint16) string {
	t.Helper()
	raw, err := new(dns.Msg).SetQuestion(name, qtype).Pack()
	if err != nil {
		t.Fatal(err)
	}
	reply, forward := v.answer(raw, true)
	if forward != nil {
		return "forward"
	}
	var m dns.Msg
	if err := m.Unpack(reply); err != nil {
		t.Fatal(err)
	}
	if !m.Response || !m.RecursionAvailable || !m.RecursionDesired || len(m.Question) != 1 || m.Question[0].Name != name {
		t.Errorf("%s: odd answer %v", name, &m)
	}
	for _, rr := range m.Answer {
		if rr.Header().Ttl != 600 || rr.Header().Name != name {
			t.Errorf("%s: odd record %v", name, rr)
		}
	}
	return text(&m)
}

func TestAnswers(t *testing.T) {
	v := testView(nil)
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"web.", dns.TypeA, "10.1.0.2"},
		{"WeB.", dns.TypeA, "10.1.0.2"},
		{"web.front.", dns.TypeA, "10.1.0.2"},
		{"web.FRONT.", dns.TypeA, "10.1.0.2"},
		{"web.back.end.", dns.TypeA, "10.2.0.3"},
		{"a.b.", dns.TypeA, "10.1.0.6"},
		{"a.b.front.", dns.TypeA, "10.1.0.6"},
		{"web.example.com.", dns.TypeA, "forward"},
		{"web.foreign.", dns.TypeA, "forward"},
		{"secret.", dns.TypeA, "forward"},
		{"secret.foreign.", dns.TypeA, "forward"},
		{"web.", dns.TypeAAAA, ""}, // there is such a name: no NXDOMAIN, and nobody else is asked
		{"six.", dns.TypeA, ""},
		{"alias.", dns.TypeAAAA, "fd00::2"},
		{"both.", dns.TypeAAAA, "fd00::7"}, // the first network that has an address of the kind
		{"link.", dns.TypeA, "10.1.0.9"},
		{"link.front.", dns.TypeA, "10.1.0.9"},
		{"link.foreign.", dns.TypeA, "forward"},
		{"db.", dns.TypeA, "10.2.0.9"}, // links come first
		{"web.", dns.TypeMX, ""},
		{"web.", dns.TypeTXT, ""},
		{"web.", dns.TypeHTTPS, ""},
		{"web.", dns.TypeANY, "10.1.0.2"},
		{"alias.", dns.TypeANY, "10.1.0.2 fd00::2"},
		{"none.", dns.TypeA, "forward"},
		{"none.", dns.TypeMX, "forward"},
		{".", dns.TypeNS, "forward"},
		{"2.0.1.10.in-addr.arpa.", dns.TypePTR, "web.Front."},
		{"2.0.1.10.IN-ADDR.ARPA.", dns.TypePTR, "web.Front."},
		{"2.0.2.10.in-addr.arpa.", dns.TypePTR, "db.back.end."},
		{"2.0.4.10.in-addr.arpa.", dns.TypePTR, "forward"}, // of a network that the container isn't in
		{"9.0.1.10.in-addr.arpa.", dns.TypePTR, "forward"},
		{"0.1.10.in-addr.arpa.", dns.TypePTR, "forward"},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "alias.Front."},
		{"2.0.0.0.ip6.arpa.", dns.TypePTR, "forward"},
	} {
		if got := v.ask(t, c.name, c.qtype); got != c.want {
			t.Errorf("%s %s: %q, not %q", c.name, dns.TypeToString[c.qtype], got, c.want)
		}
	}
}

func TestNobodyToForwardTo(t *testing.T) {
	for name, v := range map[string]*view{
		"internal":   testView(func(r *Resolver) { r.Internal = true }),
		"no servers": testView(func(r *Resolver) { r.Servers = nil }),
	} {
		for q, want := range map[string]string{"none.": "NXDOMAIN", "example.com.": "SERVFAIL", "web.": "10.1.0.2"} {
			if got := v.ask(t, q, dns.TypeA); got != want {
				t.Errorf("%s: %s: %q, not %q", name, q, got, want)
			}
		}
	}
	v := testView(func(r *Resolver) { r.Ndots = true })
	for q, want := range map[string]string{"none.": "", "example.com.": "forward"} {
		if got := v.ask(t, q, dns.TypeA); got != want {
			t.Errorf("ndots: %s: %q, not %q", q, got, want)
		}
	}
}

// Each address comes first in turn, for both families apart, and the turn survives a new state.
func TestTakesTurns(t *testing.T) {
	names := []Name{{"svc", addrs("10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2")}}
	first := newZone(Zone{"n", "net", names}, nil)
	var got []string
	for i := range 4 {
		z := newZone(Zone{"n", "net", append(names, Name{"more", addrs("10.0.0." + strings.Repeat("9", i%2+1))})}, first)
		first = z
		v := &view{zones: []*zone{z}}
		got = append(got, v.ask(t, "svc.", dns.TypeA), v.ask(t, "svc.", dns.TypeAAAA))
	}
	want := "10.0.0.1 10.0.0.2|fd00::1 fd00::2|10.0.0.2 10.0.0.1|fd00::2 fd00::1|10.0.0.1 10.0.0.2|fd00::1 fd00::2|10.0.0.2 10.0.0.1|fd00::2 fd00::1"
	if strings.Join(got, "|") != want {
		t.Errorf("got %s", strings.Join(got, "|"))
	}
}

func TestSizes(t *testing.T) {
	v := testView(nil)
	for _, c := range []struct {
		edns      uint16
		tcp       bool
		truncated bool
		most      int
	}{{0, false, true, 512}, {100, false, true, 512}, {900, false, true, 900}, {1232, false, false, 1232}, {0, true, false, 65535}} {
		m := new(dns.Msg).SetQuestion("many.", dns.TypeA)
		if c.edns > 0 {
			m.SetEdns0(c.edns, true)
		}
		raw, _ := m.Pack()
		reply, _ := v.answer(raw, c.tcp)
		var r dns.Msg
		if err := r.Unpack(reply); err != nil {
			t.Fatal(err)
		}
		if len(reply) > c.most || r.Truncated != c.truncated || !c.truncated && len(r.Answer) != 60 || (r.IsEdns0() != nil) != (c.edns > 0) {
			t.Errorf("%+v: %d bytes, truncated %v, %d answers", c, len(reply), r.Truncated, len(r.Answer))
		}
	}
}

func TestOddMessages(t *testing.T) {
	v := testView(nil)
	query := func(change func(m *dns.Msg)) []byte {
		m := new(dns.Msg).SetQuestion("web.", dns.TypeA)
		change(m)
		raw, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	plain := query(func(*dns.Msg) {})
	badVersion := query(func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(9) })
	for name, c := range map[string]struct {
		raw  []byte
		want string // code of the answer; "": ignored
	}{
		"empty":         {nil, ""},
		"short":         {plain[:11], ""},
		"a response":    {query(func(m *dns.Msg) { m.Response = true }), ""},
		"an update":     {query(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), "NOTIMP"},
		"no question":   {query(func(m *dns.Msg) { m.Question = nil }), "FORMERR"},
		"two questions": {query(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), "FORMERR"},
		"cut off":       {plain[:len(plain)-2], "FORMERR"},
		"pointer loop":  {append(append([]byte{}, plain[:12]...), 0xc0, 12, 0, 1, 0, 1), "FORMERR"},
		"other edns":    {badVersion, "BADVERS"},
	} {
		reply, forward := v.answer(c.raw, false)
		if forward != nil {
			t.Errorf("%s: forwarded", name)
			continue
		}
		var m dns.Msg
		switch {
		case c.want == "" && reply != nil:
			t.Errorf("%s: answered", name)
		case c.want == "":
		case m.Unpack(reply) != nil || !m.Response || dns.RcodeToString[m.Rcode] != c.want && !(c.want == "BADVERS" && m.Rcode == dns.RcodeBadVers):
			t.Errorf("%s: %v, not %s", name, &m, c.want)
		}
	}
}

// Whatever comes, an answer is one to what was asked and no longer than allowed.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"web.", "many.", "x.example.com.", "2.0.1.10.in-addr.arpa.", "2.0.0.0.ip6.arpa.", "."} {
		for _, t := range []uint16{dns.TypeA, dns.TypeANY, dns.TypePTR} {
			m := new(dns.Msg).SetQuestion(name, t)
			m.SetEdns0(1400, true)
			raw, _ := m.Pack()
			f.Add(raw, raw, t == dns.TypeA)
		}
	}
	v := testView(nil)
	f.Fuzz(func(t *testing.T, raw, upstream []byte, tcp bool) {
		reply, q := v.answer(raw, tcp)
		if reply != nil && q != nil {
			t.Fatal("two results")
		}
		limit := dns.MinMsgSize
		if q != nil {
			limit = q.limit
			q.answers(upstream, 1)
			if len(upstream) >= headLen {
				reply = q.fit(upstream)
			}
		} else if reply != nil {
			if len(reply) < headLen || string(reply[:2]) != string(raw[:2]) || reply[2]&bitQR == 0 {
				t.Fatalf("%x answered with %x", raw, reply)
			}
			limit = maxTCP
		}
		if len(reply) > limit {
			t.Fatalf("%d bytes, %d are allowed", len(reply), limit)
		}
	})
}
