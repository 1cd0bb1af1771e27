//go:build !linux

package network

import (
	"net/netip"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// host refuses: brig's networks on this system are not there yet.
type host struct{ up bool }

// forward is one published port and where it leads.
type forward struct {
	brig.PortBinding
	to netip.Addr
}

func newHost(Config) *host { return &host{} }

func unsupported() error {
	return errs.New(errs.NotImplemented, "bridge networks are not supported on this system yet: use --network host or none")
}

func (*host) netnsOf(int) brig.Netns                            { return brig.Netns{Kind: brig.NetnsHost} }
func (*host) netnsPath(brig.ID) string                          { return "" }
func (*host) bridgeName() string                                { return "" }
func (*host) usable(netip.Prefix, string) bool                  { return false }
func (*host) chooseSubnet() (brig.Subnet, error)                { return brig.Subnet{}, unsupported() }
func (*host) ensure(*brig.Network) error                        { return unsupported() }
func (*host) plug(brig.ID, *brig.Network, *brig.Endpoint) error { return unsupported() }
func (*host) release(brig.ID) error                             { return nil }
func (*host) unplug(brig.ID) error                              { return nil }
func (*host) program(*brig.Network, []forward) error            { return unsupported() }
func (*host) sweep(map[brig.ID]brig.ID) error                   { return nil }
func (*host) remove(*brig.Network) error                        { return nil }
func (*host) strays(map[brig.ID]brig.ID) ([]string, error)      { return nil, nil }
func (*host) scrap(string) error                                { return unsupported() }
func (*host) missing(*brig.Network) []string                    { return nil }
func (*host) notes() []string                                   { return nil }
