package network

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func subnet(prefix, gw string) brig.Subnet {
	return brig.Subnet{Prefix: netip.MustParsePrefix(prefix), Gateway: netip.MustParseAddr(gw)}
}

func TestPoolGivesEachAddressOnceAndLetsItRest(t *testing.T) {
	var p pool
	s := subnet("10.0.0.0/29", "10.0.0.1") // hosts .2 to .6
	var got []string
	for range 5 {
		a, err := p.take(s, "")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, a.String())
	}
	if want := "10.0.0.2/29 10.0.0.3/29 10.0.0.4/29 10.0.0.5/29 10.0.0.6/29"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if _, err := p.take(s, ""); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a full subnet gave %v", err)
	}
	p.give(netip.MustParseAddr("10.0.0.3"))
	p.give(netip.MustParseAddr("10.0.0.6"))
	for _, want := range []string{"10.0.0.3/29", "10.0.0.6/29"} {
		if a, err := p.take(s, ""); err != nil || a.String() != want {
			t.Errorf("got %v, %v; want %s", a, err, want)
		}
	}
}

func TestPoolFixedAddresses(t *testing.T) {
	var p pool
	s := subnet("10.0.0.0/24", "10.0.0.1")
	p.hold(netip.MustParseAddr("10.0.0.9"))
	for _, c := range []struct {
		addr string
		kind errs.Kind
	}{{"10.0.0.1", errs.Invalid}, {"10.0.1.2", errs.Invalid}, {"x", errs.Invalid}, {"10.0.0.9", errs.Forbidden}} {
		if _, err := p.take(s, c.addr); !errs.Is(err, c.kind) {
			t.Errorf("%s: %v, want kind %v", c.addr, err, c.kind)
		}
	}
	if a, err := p.take(s, "10.0.0.77"); err != nil || a.String() != "10.0.0.77/24" {
		t.Errorf("fixed: %v, %v", a, err)
	}
	if a, _ := p.take(s, ""); a.String() != "10.0.0.10/24" {
		t.Errorf("after a held .9 comes %v, want .10", a)
	}
}

func TestChooseAvoidsTakenSubnets(t *testing.T) {
	s, err := choose([]netip.Prefix{netip.MustParsePrefix("172.17.3.0/24"), netip.MustParsePrefix("172.18.0.0/15")})
	if err != nil || s.Prefix.String() != "172.20.0.0/16" || s.Gateway.String() != "172.20.0.1" {
		t.Errorf("got %v, %v", s, err)
	}
	if _, err := choose([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("with everything taken: %v", err)
	}
}

func TestMacFor(t *testing.T) {
	if m := macFor(netip.MustParseAddr("172.17.0.2")); m != "02:42:ac:11:00:02" {
		t.Error(m)
	}
}

func TestPortsAreReserved(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	busy := uint16(l.Addr().(*net.TCPAddr).Port)
	p := newPorts()
	defer p.close()
	tcp80 := brig.Port{Number: 80, Proto: "tcp"}

	got, err := p.reserve([]brig.PortBinding{{Port: tcp80}, {Port: brig.Port{Number: 53, Proto: "udp"}, HostIP: "127.0.0.1"}})
	if err != nil || got[0].HostIP != "0.0.0.0" || got[0].HostPort == 0 || got[1].HostIP != "127.0.0.1" || got[1].HostPort == 0 {
		t.Fatalf("ephemeral: %+v, %v", got, err)
	}
	if _, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", itoa(got[0].HostPort))); err == nil {
		t.Error("another program could take a published port")
	}
	for _, c := range []struct {
		name string
		want []brig.PortBinding
		text string
		kind errs.Kind
	}{
		{"ours", []brig.PortBinding{{Port: tcp80, HostIP: "127.0.0.1", HostPort: got[0].HostPort}}, "port is already allocated", errs.Internal},
		{"another program's", []brig.PortBinding{{Port: tcp80, HostPort: busy}}, "address already in use", errs.Internal},
		{"bad address", []brig.PortBinding{{Port: tcp80, HostIP: "localhost"}}, "invalid host address", errs.Invalid},
		{"IPv6", []brig.PortBinding{{Port: tcp80, HostIP: "::1"}}, "not supported", errs.NotImplemented},
		{"sctp", []brig.PortBinding{{Port: brig.Port{Number: 1, Proto: "sctp"}}}, "not supported", errs.NotImplemented},
	} {
		held := len(p.held)
		if _, err := p.reserve(append([]brig.PortBinding{{Port: tcp80}}, c.want...)); err == nil || !strings.Contains(err.Error(), c.text) || !errs.Is(err, c.kind) {
			t.Errorf("%s: %v", c.name, err)
		}
		if len(p.held) != held {
			t.Errorf("%s: a failed reservation holds ports", c.name)
		}
	}
	next, err := p.reserve([]brig.PortBinding{{Port: tcp80, HostIP: "127.0.0.1", HostPort: busy, HostEnd: busy + 20}})
	if err != nil || next[0].HostPort <= busy {
		t.Errorf("range from a busy port: %+v, %v", next, err)
	}
	p.release(got)
	if again, err := p.reserve(got); err != nil || again[0] != got[0] {
		t.Errorf("released ports can't be had again: %+v, %v", again, err)
	}
}

func itoa(n uint16) string { return strconv.Itoa(int(n)) }
