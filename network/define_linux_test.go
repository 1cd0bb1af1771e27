package network

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestWhatIsNoNetworkIsRefused(t *testing.T) {
	n := open(t, memory{}, "00000000", t.TempDir())
	sub := func(prefix string) brig.Subnet { return brig.Subnet{Prefix: netip.MustParsePrefix(prefix)} }
	ranged := sub("10.1.0.0/16")
	ranged.Range, ranged.Gateway = netip.MustParsePrefix("10.2.0.0/24"), netip.MustParseAddr("10.3.0.1")
	with := func(prefix, gateway, aux string) brig.Network {
		s := sub(prefix)
		if gateway != "" {
			s.Gateway = netip.MustParseAddr(gateway)
		}
		if aux != "" {
			s.Aux = map[string]netip.Addr{"a": netip.MustParseAddr(aux)}
		}
		return brig.Network{Name: "x", IPv6: !s.Prefix.Addr().Is4(), Subnets: []brig.Subnet{s}}
	}
	twice := with("10.1.0.0/16", "", "10.1.0.5")
	twice.Subnets[0].Aux["b"] = twice.Subnets[0].Aux["a"]
	for _, c := range []struct {
		w    brig.Network
		kind errs.Kind
		text string
	}{
		{brig.Network{Name: " "}, errs.Invalid, "network name cannot be blank"},
		{brig.Network{Name: "none"}, errs.Forbidden, "operation is not permitted on predefined none network"},
		{brig.Network{Name: "x", Driver: "host"}, errs.Forbidden, `only one instance of "host" network is allowed`},
		{brig.Network{Name: "x", Driver: "macvlan"}, errs.NotImplemented, "macvlan"},
		{brig.Network{Name: "x", Driver: "nosuch"}, errs.NotFound, `plugin "nosuch" not found`},
		{brig.Network{Name: "x", NoIPv4: true}, errs.Invalid, "IPv4 or IPv6 must be enabled"},
		{brig.Network{Name: "x", ConfigFrom: "y"}, errs.NotFound, `configuration network "y" does not exist`},
		{brig.Network{Name: "x", ConfigFrom: "bridge"}, errs.NotFound, `configuration network "bridge" does not exist`},
		{brig.Network{Name: "x", ConfigFrom: "y", ConfigOnly: true}, errs.Forbidden, "cannot depend on another"},
		{brig.Network{Name: "x", Subnets: []brig.Subnet{sub("10.1.2.3/16")}}, errs.Invalid, "invalid subnet 10.1.2.3/16: it should be 10.1.0.0/16"},
		{brig.Network{Name: "x", Subnets: []brig.Subnet{{}}}, errs.Invalid, "invalid CIDR block notation"},
		{brig.Network{Name: "x", Subnets: []brig.Subnet{ranged}}, errs.Invalid, "parent subnet 10.1.0.0/16 doesn't contain ip-range\ninvalid gateway 10.3.0.1: parent subnet 10.1.0.0/16 doesn't contain this address"},
		{brig.Network{Name: "x", Subnets: []brig.Subnet{sub("10.1.0.0/16"), sub("10.2.0.0/16")}}, errs.Forbidden, "bridge driver doesn't support multiple subnets"},
		{with("10.1.0.0/16", "10.1.0.0", ""), errs.Forbidden, "failed to allocate gateway (10.1.0.0): Address already in use"},
		{with("10.1.0.0/16", "10.1.255.255", ""), errs.Forbidden, "failed to allocate gateway (10.1.255.255): Address already in use"},
		{with("10.1.0.0/16", "", "10.1.0.1"), errs.Forbidden, "failed to allocate secondary ip address (a:10.1.0.1): Address already in use"},
		{with("10.1.0.0/16", "10.1.0.9", "10.1.0.9"), errs.Forbidden, "failed to allocate secondary ip address (a:10.1.0.9): Address already in use"},
		{with("10.1.0.0/16", "", "10.1.255.255"), errs.Forbidden, "failed to allocate secondary ip address (a:10.1.255.255): Address already in use"},
		{with("fd00:1::/64", "", "fd00:1::1"), errs.Forbidden, "failed to allocate secondary ip address (a:fd00:1::1): Address already in use"},
		{twice, errs.Forbidden, "failed to allocate secondary ip address (b:10.1.0.5): Address already in use"},
		{brig.Network{Name: "x", Options: map[string]string{optBridge: ""}}, errs.Invalid, optBridge},
	} {
		if _, err := n.Create(t.Context(), c.w); !errs.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v, want kind %v and %q", c.w, err, c.kind, c.text)
		}
	}
	if all, _ := n.List(t.Context()); len(all) != 3 {
		t.Errorf("networks by now: %v", all)
	}
}

func TestConfigOnlyNetworks(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a bridge")
	}
	recs, dir, instance := memory{}, t.TempDir(), string(brig.NewRID()[:8])
	n := open(t, recs, instance, dir)
	t.Cleanup(func() { n.host.remove() })
	if _, err := n.Create(t.Context(), brig.Network{Name: "conf", ConfigOnly: true, Internal: true, Labels: map[string]string{"a": "1", "b": "1"},
		Subnets: []brig.Subnet{{Prefix: netip.MustParsePrefix("10.213.0.0/24")}}}); err != nil {
		t.Fatal(err)
	}
	w, err := n.Create(t.Context(), brig.Network{Name: "of", ConfigFrom: "conf", Labels: map[string]string{"b": "2"}})
	if err != nil || !w.Internal || w.Subnets[0].Gateway.String() != "10.213.0.1" || w.Labels["a"] != "1" || w.Labels["b"] != "2" {
		t.Errorf("%+v, %v", w, err)
	}
	if _, err := n.Remove(t.Context(), "conf"); !errs.Is(err, errs.Forbidden) {
		t.Errorf("removal of a configuration in use: %v", err)
	}
	again := open(t, recs, instance, dir)
	if x, err := again.Lookup(t.Context(), "of"); err != nil || x.Subnets[0].Prefix.String() != "10.213.0.0/24" || x.ConfigFrom != "conf" {
		t.Errorf("by its record: %+v, %v", x, err)
	}
	c := container()
	c.Endpoints = map[string]brig.Endpoint{"conf": {}}
	if _, err := n.Attach(t.Context(), c, nil); !errs.Is(err, errs.Forbidden) {
		t.Errorf("a container in a configuration: %v", err)
	}
	for _, name := range []string{"of", "conf"} {
		if _, err := n.Remove(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}
