package keeper

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsServer answers by handle at a loopback address, by UDP and TCP.
func dnsServer(t testing.TB, handle func(w dns.ResponseWriter, m *dns.Msg)) string {
	t.Helper()
	at := freeAddr(t).String()
	u, err := net.ListenPacket("udp4", at)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", at)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: u}, {Listener: l}} {
		s.Handler = dns.HandlerFunc(handle)
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go s.ActivateAndServe()
		<-up
		t.Cleanup(func() { s.Shutdown() })
	}
	return at
}

func byUDP(w dns.ResponseWriter) bool { return w.LocalAddr().Network() == "udp" }

// reply answers with n addresses.
func reply(m *dns.Msg, n int) *dns.Msg {
	r := new(dns.Msg).SetReply(m)
	for i := range n {
		r.Answer = append(r.Answer, &dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.IPv4(192, 0, 2, byte(i+1))})
	}
	r.Compress = true
	return r
}

// resolverOf serves here what asks servers, and returns where.
func resolverOf(t testing.TB, servers ...string) string {
	t.Helper()
	r := openHere(t, Resolver{Container: "c", Servers: servers, Listen: []netip.AddrPort{freeAddr(t)}})
	return r.udp[0].LocalAddr().String()
}

func openHere(t testing.TB, want Resolver) *resolver {
	t.Helper()
	r, err := openResolver(want, nil, new(atomic.Int32), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.look(want, nil); err != nil {
		t.Fatal(err)
	}
	r.serve()
	t.Cleanup(r.close)
	return r
}

func TestNextServer(t *testing.T) {
	good := dnsServer(t, func(w dns.ResponseWriter, m *dns.Msg) { w.WriteMsg(reply(m, 1)) })
	fails := func(rcode int) string {
		return dnsServer(t, func(w dns.ResponseWriter, m *dns.Msg) { w.WriteMsg(new(dns.Msg).SetRcode(m, rcode)) })
	}
	silent := dnsServer(t, func(dns.ResponseWriter, *dns.Msg) {})
	dead := freeAddr(t).String()
	for name, c := range map[string]struct {
		servers []string
		want    string
	}{
		"failure":     {[]string{fails(dns.RcodeServerFailure), good}, "192.0.2.1"},
		"refusal":     {[]string{fails(dns.RcodeRefused), good}, "192.0.2.1"},
		"dead":        {[]string{dead, good}, "192.0.2.1"},
		"silent":      {[]string{silent, good}, "192.0.2.1"},
		"no such":     {[]string{fails(dns.RcodeNameError), good}, "NXDOMAIN"},
		"all failing": {[]string{dead, fails(dns.RcodeServerFailure)}, "SERVFAIL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := resolverOf(t, c.servers...)
			for _, network := range []string{"udp", "tcp"} {
				r, err := exchange(network, at, "x.example.", dns.TypeA)
				if err != nil {
					t.Fatal(network, err)
				}
				if got := text(r); got != c.want {
					t.Errorf("%s: %q, not %q", network, got, c.want)
				}
			}
		})
	}
}

// What doesn't fit into a UDP answer comes by TCP, and is as long as the client takes.
func TestLongAnswers(t *testing.T) {
	var overTCP atomic.Int32
	at := resolverOf(t, dnsServer(t, func(w dns.ResponseWriter, m *dns.Msg) {
		r := reply(m, 100)
		if byUDP(w) {
			r.Truncate(512)
		} else {
			overTCP.Add(1)
		}
		w.WriteMsg(r)
	}))
	for _, c := range []struct {
		network   string
		edns      uint16
		truncated bool
	}{{"udp", 0, true}, {"udp", 4096, false}, {"tcp", 0, false}} {
		m := new(dns.Msg).SetQuestion("x.example.", dns.TypeA)
		if c.edns > 0 {
			m.SetEdns0(c.edns, false)
		}
		before := overTCP.Load()
		r, _, err := (&dns.Client{Net: c.network, Timeout: 10 * time.Second}).Exchange(m, at)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if r.Truncated != c.truncated || !c.truncated && len(r.Answer) != 100 || overTCP.Load() != before+1 {
			t.Errorf("%+v: truncated %v, %d answers, %d asked by TCP", c, r.Truncated, len(r.Answer), overTCP.Load()-before)
		}
	}
}

// Answers under another ID or to another question are waited past; the server sees neither the client's ID nor its port.
func TestForgedAnswers(t *testing.T) {
	var seen sync.Map
	at := resolverOf(t, dnsServer(t, func(w dns.ResponseWriter, m *dns.Msg) {
		seen.Store(m.Id, true)
		seen.Store(w.RemoteAddr().String(), true)
		evil := reply(m, 2)
		evil.Id++
		w.WriteMsg(evil)
		other := reply(m, 2)
		other.Question[0].Name = "y.example."
		w.WriteMsg(other)
		w.WriteMsg(reply(m, 1))
	}))
	m := new(dns.Msg).SetQuestion("x.example.", dns.TypeA)
	for i := range 20 {
		m.Id = 4711
		r, _, err := (&dns.Client{Timeout: 10 * time.Second}).Exchange(m, at)
		if err != nil || text(r) != "192.0.2.1" || r.Id != 4711 {
			t.Fatalf("query %d: %v %v", i, r, err)
		}
	}
	n := 0
	seen.Range(func(any, any) bool { n++; return true })
	if n < 30 { // of 20 IDs and 20 ports
		t.Errorf("%d different IDs and ports in 20 queries", n)
	}
}

// A container with too many queries under way is refused more, at once, and is served again later.
func TestTooManyQueries(t *testing.T) {
	hold := make(chan struct{})
	up := dnsServer(t, func(w dns.ResponseWriter, m *dns.Msg) {
		if !strings.HasPrefix(m.Question[0].Name, "fast") {
			<-hold
		}
		w.WriteMsg(reply(m, 1))
	})
	r := openHere(t, Resolver{Container: "c", Servers: []string{up}, Listen: []netip.AddrPort{freeAddr(t)}})
	defer close(hold)
	at := r.udp[0].LocalAddr().String()
	c, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "all places are taken", func() error {
		for i := range 50 {
			raw, _ := new(dns.Msg).SetQuestion(fmt.Sprintf("slow%d.example.", i), dns.TypeA).Pack()
			c.Write(raw)
		}
		if n := r.asked.Load(); n < maxForwards {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	eventually(t, "a refusal", func() error { // places come free as queries time out
		for i := range 50 {
			raw, _ := new(dns.Msg).SetQuestion(fmt.Sprintf("slow%d.example.", i), dns.TypeA).Pack()
			c.Write(raw)
		}
		if got := lookup(at, "fast.example"); got != "REFUSED" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if n := r.asked.Load(); n > maxForwards {
		t.Errorf("%d queries are under way", n)
	}
	eventually(t, "service again", func() error {
		if got := lookup(at, "fast.example"); got != "192.0.2.1" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	eventually(t, "all places are given back", func() error {
		if a, all := r.asked.Load(), r.all.Load(); a != 0 || all != 0 {
			return fmt.Errorf("%d, %d", a, all)
		}
		return nil
	})
}

// Hostile packets neither end the service nor stay.
func TestHostilePackets(t *testing.T) {
	at := resolverOf(t, dnsServer(t, func(w dns.ResponseWriter, m *dns.Msg) { // answers with rubbish
		w.Write([]byte{0})
		w.Write(append([]byte{0, 0, 0x80, 0, 0xff, 0xff}, make([]byte, 100)...))
		w.WriteMsg(reply(m, 1))
	}))
	u, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	query, _ := new(dns.Msg).SetQuestion("x.example.", dns.TypeA).Pack()
	for i := range query {
		u.Write(query[:i])
		bad := append([]byte{}, query...)
		bad[i] ^= 0xff
		u.Write(bad)
	}
	var open []net.Conn
	for range 2 * maxClients { // connections that say nothing, or half of something
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write([]byte{0xff, 0xff, 1})
		open = append(open, c)
	}
	if got := lookup(at, "x.example"); got != "192.0.2.1" {
		t.Errorf("by UDP beside hostile ones: %q", got)
	}
	for _, c := range open {
		c.Close()
	}
	eventually(t, "answers by TCP", func() error {
		r, err := exchange("tcp", at, "x.example", dns.TypeA)
		if err == nil && text(r) != "192.0.2.1" && text(r) != "SERVFAIL" {
			err = fmt.Errorf("%v", r)
		}
		return err
	})
}
