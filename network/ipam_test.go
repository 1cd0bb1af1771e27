package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func subnet(prefix, gw string) brig.Subnet {
	return brig.Subnet{Prefix: netip.MustParsePrefix(prefix), Gateway: netip.MustParseAddr(gw)}
}

func TestPoolGivesEachAddressOnceTheLowestFirst(t *testing.T) {
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
	p.give(netip.MustParseAddr("10.0.0.6"))
	p.give(netip.MustParseAddr("10.0.0.3"))
	for _, want := range []string{"10.0.0.3/29", "10.0.0.6/29"} {
		if a, err := p.take(s, ""); err != nil || a.String() != want {
			t.Errorf("got %v, %v; want %s", a, err, want)
		}
	}
}

func TestPoolFixedAddresses(t *testing.T) {
	var p pool
	s := subnet("10.0.0.0/24", "10.0.0.1")
	p.mark(netip.MustParseAddr("10.0.0.9"))
	for _, c := range []struct {
		addr string
		kind errs.Kind
	}{{"10.0.0.1", errs.Forbidden}, {"10.0.0.255", errs.Forbidden}, {"10.0.1.2", errs.Invalid}, {"x", errs.Invalid}, {"10.0.0.9", errs.Forbidden}} {
		if _, err := p.take(s, c.addr); !errs.Is(err, c.kind) {
			t.Errorf("%s: %v, want kind %v", c.addr, err, c.kind)
		}
	}
	if a, err := p.take(s, "10.0.0.77"); err != nil || a.String() != "10.0.0.77/24" {
		t.Errorf("fixed: %v, %v", a, err)
	}
	if a, _ := p.take(s, ""); a.String() != "10.0.0.2/24" {
		t.Errorf("first comes %v, want .2", a)
	}
}

func TestChooseAvoidsTakenSubnets(t *testing.T) {
	s, err := choose(candidates4(), []netip.Prefix{netip.MustParsePrefix("172.17.3.0/24"), netip.MustParsePrefix("172.18.0.0/15")})
	if err != nil || s.Prefix.String() != "172.20.0.0/16" || s.Gateway.String() != "172.20.0.1" {
		t.Errorf("got %v, %v", s, err)
	}
	if _, err := choose(candidates4(), []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("with everything taken: %v", err)
	}
}

func TestMacFor(t *testing.T) {
	if m := macFor(netip.MustParseAddr("172.17.0.2")); m != "02:42:ac:11:00:02" {
		t.Error(m)
	}
}

func TestPoolKeepsToItsRange(t *testing.T) {
	var p pool
	s := subnet("10.0.0.0/24", "10.0.0.128")
	s.Range = netip.MustParsePrefix("10.0.0.128/30")
	s.Aux = map[string]netip.Addr{"router": netip.MustParseAddr("10.0.0.130")}
	for _, want := range []string{"10.0.0.129/24", "10.0.0.131/24"} {
		if a, err := p.take(s, ""); err != nil || a.String() != want {
			t.Errorf("got %v, %v; want %s", a, err, want)
		}
	}
	if a, err := p.take(s, ""); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a full range gave %v, %v", a, err)
	}
	if a, err := p.take(s, "10.0.0.5"); err != nil || a.String() != "10.0.0.5/24" {
		t.Errorf("a fixed address outside of the range: %v, %v", a, err)
	}
	if _, err := p.take(s, "10.0.0.130"); !errs.Is(err, errs.Forbidden) {
		t.Errorf("an auxiliary address: %v", err)
	}
}

func TestPoolOfIPv6(t *testing.T) {
	var p pool
	s := subnet("fd00:1::/64", "fd00:1::1")
	for _, want := range []string{"fd00:1::2/64", "fd00:1::3/64"} {
		if a, err := p.take(s, ""); err != nil || a.String() != want {
			t.Errorf("got %v, %v; want %s", a, err, want)
		}
	}
	c := candidates6("01ab23cd")
	if c[0].String() != "fd01:ab23:cdb1::/64" || c[1].String() != "fd01:ab23:cdb1:1::/64" {
		t.Errorf("candidates of an instance: %v, %v", c[0], c[1])
	}
}

func TestEndpointSysctls(t *testing.T) {
	got, err := endpointSysctls(map[string]string{optSysctls: "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.IFNAME.app_solicit=2", optIfname: "x", "mine": "y"})
	if err != nil || len(got) != 2 || got[0] != [2]string{"net/ipv4/conf/IFNAME/log_martians", "1"} || got[1] != [2]string{"net/ipv6/neigh/IFNAME/app_solicit", "2"} {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"net.ipv4.conf.all.log_martians=1", "net.ipv4.ip_forward=1", "kernel.x.conf.IFNAME.a=1", "net.ipv4.conf.IFNAME.x", "net.ipv4.conf.IFNAME./../x=1"} {
		if _, err := endpointSysctls(map[string]string{optSysctls: bad}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := endpointSysctls(map[string]string{labels + "endpoint.nosuch": "1"}); !errs.Is(err, errs.NotImplemented) {
		t.Errorf("an unknown option: %v", err)
	}
}

func TestOptions(t *testing.T) {
	good, err := parseOptions(map[string]string{optBridge: "br0", optICC: "false", optMasquerade: "0", optMTU: "1400", optHostIP: "127.0.0.1", optPrefix: "net", optMode4: "nat", "mine": "x"})
	if want := (bridgeOptions{"br0", false, false, 1400, netip.MustParseAddr("127.0.0.1"), "net"}); err != nil || good != want {
		t.Errorf("%+v, %v", good, err)
	}
	for opt, c := range map[string]struct {
		value string
		kind  errs.Kind
	}{
		optBridge: {"a/b", errs.Invalid}, optICC: {"maybe", errs.Invalid}, optMTU: {"big", errs.Invalid}, optHostIP: {"::1", errs.Invalid},
		optMode4: {"routed", errs.NotImplemented}, labels + "bridge.inhibit_ipv4": {"true", errs.NotImplemented},
	} {
		if _, err := parseOptions(map[string]string{opt: c.value}); !errs.Is(err, c.kind) || !strings.Contains(err.Error(), opt) {
			t.Errorf("%s=%s: %v", opt, c.value, err)
		}
	}
}

// A container's last address is asked for again only where the network still has it.
func TestStillIn(t *testing.T) {
	four, six := brig.Subnet{Prefix: netip.MustParsePrefix("172.20.0.1/16")}, brig.Subnet{Prefix: netip.MustParsePrefix("fd00::/64")}
	for _, c := range []struct {
		s          brig.Subnet
		addr, want string
	}{{four, "172.20.0.6", "172.20.0.6"}, {four, "172.21.0.6", ""}, {four, "", ""}, {four, "fd00::5", ""}, {six, "fd00::5", "fd00::5"}, {six, "fd01::5", ""}} {
		if got := stillIn(c.s, c.addr); got != c.want {
			t.Errorf("%v, %q: %q", c.s.Prefix, c.addr, got)
		}
	}
}
