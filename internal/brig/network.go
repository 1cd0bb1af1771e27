package brig

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// Port is a port and its protocol inside a container.
type Port struct {
	Number uint16
	Proto  string // tcp, udp, sctp
}

// String returns "80/tcp".
func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Proto) }

// ParsePort reads "80", "80/udp"; the protocol defaults to tcp.
func ParsePort(s string) (Port, error) {
	num, proto, ok := strings.Cut(s, "/")
	if !ok {
		proto = "tcp"
	}
	n, err := strconv.ParseUint(num, 10, 16)
	proto = strings.ToLower(proto)
	if err != nil || n == 0 || (proto != "tcp" && proto != "udp" && proto != "sctp") {
		return Port{}, errs.New(errs.Invalid, "invalid port specification: %q", s)
	}
	return Port{uint16(n), proto}, nil
}

// PortBinding publishes a container's port on the host.
type PortBinding struct {
	Port
	HostIP   string // "": all addresses
	HostPort uint16 // 0: the engine chooses
	HostEnd  uint16 // last of a range to choose from; 0: HostPort alone
}

// DNS is what goes into resolv.conf; empty lists mean the host's.
type DNS struct{ Servers, Search, Options []string }

// EndpointSpec is what a request says about one network.
type EndpointSpec struct {
	Aliases, Links []string
	IPv4, IPv6     string // fixed addresses
	LinkLocal      []string
	MacAddress     string
	GwPriority     int // of its networks, the one with the highest gives the container its default route
	DriverOpts     map[string]string
}

// Endpoint is a container's place in a network.
type Endpoint struct {
	Spec       EndpointSpec
	NetworkID  ID
	EndpointID ID
	Addr4      netip.Prefix // address and prefix length; zero while not running
	Gateway4   netip.Addr
	Addr6      netip.Prefix
	Gateway6   netip.Addr
	MAC        string
	Iface      string        // the interface's name inside
	DNSNames   []string      // in a user-defined network; the first answers reverse lookups
	Resolver   netip.Addr    `json:",omitzero"` // where it asks for names; invalid: at an address of its own
	Ports      []PortBinding // as published, every HostIP and HostPort set
}

// Rest returns what is left of an endpoint when its container doesn't run.
func (e Endpoint) Rest() Endpoint {
	return Endpoint{Spec: e.Spec, NetworkID: e.NetworkID, DNSNames: e.DNSNames}
}

// DNSNames are the names that a container has in a user-defined network: its own, those asked for, its short ID and its host name.
func (c *Container) DNSNames(aliases []string) []string {
	var out []string
	for _, n := range append(append([]string{c.Name}, aliases...), c.ID.Short(), c.Spec.Hostname) {
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// Predefined reports whether every Docker host has a network of that name.
func Predefined(network string) bool {
	return slices.Contains([]string{"bridge", "host", "none", "default"}, network)
}

// Network is a network's record.
type Network struct {
	ID          ID
	Name        string
	Driver      string // bridge, host, null
	Created     time.Time
	Internal    bool
	NoIPv4      bool
	IPv6        bool
	Attachable  bool
	ConfigOnly  bool   // it only lends its settings to others
	ConfigFrom  string // the network whose settings it has
	Subnets     []Subnet
	IPAMOptions map[string]string
	Options     map[string]string
	Labels      map[string]string
	Bridge      string // interface name on the host; "" without one
}

// Subnet is one address range of a network.
type Subnet struct {
	Prefix      netip.Prefix
	Gateway     netip.Addr
	Range       netip.Prefix          // addresses are given out from here; zero: from all of Prefix
	Aux         map[string]netip.Addr // never given out
	Auto        bool                  // the engine chose Prefix
	AutoGateway bool                  // the engine chose Gateway
}

// CheckFixed refuses fixed addresses where Docker has none.
func (w *Network) CheckFixed(e *EndpointSpec) error {
	for _, f := range []struct {
		addr string
		is4  bool
	}{{e.IPv4, true}, {e.IPv6, false}} {
		if f.addr == "" {
			continue
		}
		if Predefined(w.Name) {
			return errs.New(errs.Invalid, "user specified IP address is supported on user defined networks only")
		}
		if !slices.ContainsFunc(w.Subnets, func(s Subnet) bool { return !s.Auto && s.Prefix.Addr().Is4() == f.is4 }) {
			return errs.New(errs.Invalid, "user specified IP address is supported only when connecting to networks with user configured subnets")
		}
	}
	return nil
}

// NetnsKind says which network namespace (or VNET) a jail gets.
type NetnsKind int

// The kinds.
const (
	NetnsPrivate NetnsKind = iota // its own with lo alone
	NetnsHost                     // the host's
	NetnsPath                     // the one bound at Path; on FreeBSD that of the jail of this name, whose child the jail is to be
)

// Netns is a jail's network namespace.
type Netns struct {
	Kind NetnsKind
	Path string
}

// Attachment is what network.Attach did for a container: the namespace to run in and its places in networks.
type Attachment struct {
	Netns     Netns
	Endpoints map[string]Endpoint // by network name
	Warnings  []string
}
