package network

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/network/keeper"
)

// Where containers ask at the host's address in their networks, the keeper is told of all of these, and from where they ask.
func TestResolverAtGateways(t *testing.T) {
	n := &Networks{host: newHost(Config{Instance: "1a2b3c4d"})}
	for _, name := range []string{"a", "b", "bridge"} {
		n.nets = append(n.nets, &brig.Network{ID: brig.ID("id-" + name), Name: name, Driver: "bridge", Internal: name == "a"})
	}
	ep := func(net, at, addr4, addr6 string) brig.Endpoint {
		e := brig.Endpoint{NetworkID: brig.ID("id-" + net)}
		e.Resolver, _ = netip.ParseAddr(at)
		e.Addr4, _ = netip.ParsePrefix(addr4)
		e.Addr6, _ = netip.ParsePrefix(addr6)
		return e
	}
	zones := map[brig.ID]*keeper.Zone{"id-a": {Network: "id-a"}, "id-b": {Network: "id-b"}}
	p := &place{id: first, ns: brig.Netns{Kind: brig.NetnsPath, Path: "there"}, eps: map[string]brig.Endpoint{
		"a": ep("a", "10.0.0.1", "10.0.0.2/24", ""), "b": ep("b", "10.1.0.1", "10.1.0.2/24", "fd00::2/64"), "bridge": ep("bridge", "", "172.17.0.2/16", ""),
	}}
	r := n.resolver(p, zones)
	if got := fmt.Sprintf("%q %s %s %s %t", r.Netns, r.Listen, r.Clients, r.Networks, r.Internal); got != `"" [10.0.0.1:53 10.1.0.1:53] [10.0.0.2 10.1.0.2 fd00::2] [id-a id-b] false` {
		t.Error(got)
	}
	for name, e := range p.eps {
		e.Resolver = netip.Addr{}
		p.eps[name] = e
	}
	if r = n.resolver(p, zones); r.Netns != "there" || r.Listen != nil || r.Clients != nil {
		t.Errorf("in a namespace: %+v", r)
	}
}
