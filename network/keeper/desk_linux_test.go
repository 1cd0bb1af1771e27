package keeper

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// askFrom looks a name up from an address of the loopback, all of which are there on Linux; "nobody" if there is no answer.
func askFrom(t testing.TB, network, from string, at netip.AddrPort, name string) string {
	t.Helper()
	local := net.Addr(&net.UDPAddr{IP: net.ParseIP(from)})
	if network == "tcp" {
		local = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	c := &dns.Client{Net: network, Timeout: 500 * time.Millisecond, Dialer: &net.Dialer{LocalAddr: local}}
	r, _, err := c.Exchange(m, at.String())
	if err != nil {
		return "nobody"
	}
	return text(r)
}

// atDesk is a state with containers c0, c1, … that all listen at one address, each asked from an address of its own and with a name of its own.
func atDesk(at netip.AddrPort, clients ...string) (s State) {
	for i, c := range clients {
		s.Resolvers = append(s.Resolvers, Resolver{Container: fmt.Sprintf("c%d", i), Listen: []netip.AddrPort{at}, Clients: addrs(c), Internal: true,
			Names: []Name{{"me", addrs(fmt.Sprintf("10.0.0.%d", i))}}})
	}
	return s
}

func TestContainersShareAnAddress(t *testing.T) {
	c, at := open(t, t.TempDir()), freeAddr(t)
	must := func(s State) {
		t.Helper()
		if err := c.Set(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(from, want string) {
		t.Helper()
		for _, network := range []string{"udp", "tcp"} {
			if got := askFrom(t, network, from, at, "me"); got != want {
				t.Errorf("%s from %s: %q, not %q", network, from, got, want)
			}
		}
	}
	must(atDesk(at, "127.0.0.2", "127.0.0.3"))
	expect("127.0.0.2", "10.0.0.0")
	expect("127.0.0.3", "10.0.0.1")
	expect("127.0.0.4", "nobody")
	must(atDesk(at, "127.0.0.3", "127.0.0.4", "127.0.0.5")) // addresses change hands
	expect("127.0.0.2", "nobody")
	expect("127.0.0.3", "10.0.0.0")
	expect("127.0.0.4", "10.0.0.1")
	s := oneName(at, "me", "10.9.9.9") // the address alone
	must(s)
	expect("127.0.0.2", "10.9.9.9")
	must(atDesk(at, "127.0.0.2"))
	expect("127.0.0.2", "10.0.0.0")
	expect("127.0.0.3", "nobody")

	other, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	taken := other.LocalAddr().(*net.UDPAddr).AddrPort()
	s = atDesk(taken, "127.0.0.2", "127.0.0.3")
	s.Resolvers = append(s.Resolvers, Resolver{Container: "c9", Listen: []netip.AddrPort{at}, Clients: addrs("127.0.0.9"), Names: []Name{{"me", addrs("10.0.0.9")}}})
	if err = c.Set(t.Context(), s); err == nil || !strings.Contains(err.Error(), "c0") || !strings.Contains(err.Error(), "c1") || strings.Contains(err.Error(), "c9") {
		t.Errorf("an address that another program has: %v", err)
	}
	expect("127.0.0.9", "10.0.0.9")
	if err = c.Set(t.Context(), atDesk(at, "127.0.0.2", "127.0.0.2")); err == nil || !strings.Contains(err.Error(), "both ask from 127.0.0.2") {
		t.Errorf("two containers at one address: %v", err)
	}
}

// Containers come and go while others ask: those that stay are always answered.
func TestDesksWhileContainersChurn(t *testing.T) {
	c, at := open(t, t.TempDir()), freeAddr(t)
	if err := c.Set(t.Context(), atDesk(at, "127.0.0.2")); err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	var wg sync.WaitGroup
	for _, from := range []string{"127.0.0.2", "127.0.0.3"} {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				got := askFrom(t, "tcp", from, at, "me")
				if from == "127.0.0.2" && got != "10.0.0.0" {
					t.Errorf("the container that stays is told %q", got)
					return
				}
			}
		})
	}
	for i := range 40 {
		s := atDesk(at, "127.0.0.2", "127.0.0.3")
		if i%2 == 1 {
			s = atDesk(at, "127.0.0.2")
		}
		if err := c.Set(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
	close(end)
	wg.Wait()
}
