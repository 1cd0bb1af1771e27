package brig

import (
	"fmt"
	"net/netip"
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
	MacAddress     string
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
	DNSNames   []string
	Ports      []PortBinding // as published, every HostPort set
}

// Network is a network's record.
type Network struct {
	ID       ID
	Name     string
	Driver   string // bridge, host, null
	Created  time.Time
	Internal bool
	IPv6     bool
	Subnets  []Subnet
	Options  map[string]string
	Labels   map[string]string
	Bridge   string // interface name on the host; "" without one
}

// Subnet is one address range of a network.
type Subnet struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
	Range   netip.Prefix // addresses are given out from here; zero: from all of Prefix
}

// NetnsKind says which network namespace (or VNET) a jail gets.
type NetnsKind int

// The kinds.
const (
	NetnsPrivate NetnsKind = iota // its own with lo alone
	NetnsHost                     // the host's
	NetnsPath                     // the one bound at Path
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
