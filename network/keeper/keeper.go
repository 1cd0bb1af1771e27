// Package keeper is the process that goes on while brigd is down: it answers DNS queries of containers, relays ports that the
// kernel can't redirect, and holds published ports. One runs per instance, as brig-net; brigd talks to it through a Client.
//
// Its whole state is replaced at once by Set, so that no sequence of changes can be lost. What it serves lives in sockets alone:
// one that is killed is started again by the Client and told everything anew.
package keeper

import "net/netip"

// State is all that a keeper serves. A new one replaces the old.
type State struct {
	Resolvers []Resolver `json:",omitempty"` // one for each container with a resolver of its own
	Networks  []Zone     `json:",omitempty"` // the names of each user-defined network
	Ports     []Port     `json:",omitempty"` // host ports to hold, and to relay where To is valid
}

// Empty reports whether there is nothing to serve: names alone are of no use.
func (s *State) Empty() bool { return len(s.Resolvers) == 0 && len(s.Ports) == 0 }

// Resolver is the DNS server of one container.
type Resolver struct {
	Container string           // its ID
	Netns     string           `json:",omitempty"` // path of its network namespace's file; served there at 127.0.0.11:53
	Listen    []netip.AddrPort `json:",omitempty"` // without Netns: addresses of the keeper's own namespace
	Clients   []netip.Addr     `json:",omitempty"` // with Listen: it is asked from these alone, and others may listen at the same addresses
	Networks  []string         `json:",omitempty"` // IDs of the networks it is in: names are looked up in them, in this order
	Names     []Name           `json:",omitempty"` // names only this container knows (links)
	Servers   []string         `json:",omitempty"` // upstream servers in order, "ADDR" or "ADDR:PORT"
	FromHost  []bool           `json:",omitempty"` // per server: asked from the keeper's namespace, not from the container's
	Internal  bool             `json:",omitempty"` // nothing is forwarded
	Ndots     bool             `json:",omitempty"` // the container sets ndots above 0: names without a dot are not forwarded, its search list is
}

// Zone is the names of one network.
type Zone struct {
	Network string // ID
	Name    string `json:",omitempty"` // the network's name: names answer with and without it, "web" and "web.NAME"; reverse lookups end in it
	Names   []Name `json:",omitempty"` // of an address's names the first answers its reverse lookup
}

// Name is a name and its addresses; of several, each answer begins with another.
type Name struct {
	Name  string
	Addrs []netip.Addr
}

// Port is one port of the host.
type Port struct {
	Proto    string         // tcp or udp
	HostIP   netip.Addr     // an unspecified one stands for all addresses of its family alone
	HostPort uint16         // Reserve chooses one for 0
	HostEnd  uint16         `json:",omitempty"` // Reserve alone: the last of a range whose first free port is taken
	To       netip.AddrPort `json:",omitzero"`  // invalid: the port is held and nothing listens; else connections are relayed there
}

// hostKey tells two ports apart.
type hostKey struct {
	proto string
	at    netip.AddrPort
}

func (p *Port) key() hostKey {
	return hostKey{p.Proto, netip.AddrPortFrom(p.HostIP.Unmap(), p.HostPort)}
}
