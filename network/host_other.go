//go:build !linux && !freebsd

package network

import (
	"net/netip"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// host refuses: brig's networks on this system are not there yet.
type host struct{}

func newHost(Config) *host { return &host{} }

func unsupported() error {
	return errs.New(errs.NotImplemented, "bridge networks are not supported on this system yet: use --network host or none")
}

func (*host) netnsOf(int) brig.Netns                                         { return brig.Netns{Kind: brig.NetnsHost} }
func (*host) netnsPath(brig.ID) string                                       { return "" }
func (*host) bridgeName() string                                             { return "" }
func (*host) userBridge(brig.ID) string                                      { return "" }
func (*host) hasIPv6() bool                                                  { return false }
func (*host) relaysLocal() bool                                              { return false }
func (*host) resolverOf(*brig.Network) netip.Addr                            { return netip.Addr{} }
func (*host) knowsSCTP() error                                               { return unsupported() }
func (*host) taken(string) ([]netip.Prefix, error)                           { return nil, unsupported() }
func (*host) ensure(*brig.Network, bridgeOptions) error                      { return unsupported() }
func (*host) bridged(string) bool                                            { return false }
func (*host) removeBridge(*brig.Network) error                               { return nil }
func (*host) hasNetns(brig.ID) bool                                          { return false }
func (*host) bind(brig.ID, int) error                                        { return unsupported() }
func (*host) plug(brig.ID, []leg, defaults) error                            { return unsupported() }
func (*host) add(brig.ID, []leg, defaults) error                             { return unsupported() }
func (*host) reroute(brig.ID, defaults) error                                { return unsupported() }
func (*host) enslave(leg) error                                              { return unsupported() }
func (*host) members() (map[string]string, error)                            { return nil, nil }
func (*host) release(brig.ID) error                                          { return nil }
func (*host) unplug(brig.Endpoint) error                                     { return nil }
func (*host) linkNames(brig.Endpoint) []string                               { return nil }
func (*host) numbersIfaces() bool                                            { return false }
func (*host) sharesStack() bool                                              { return false }
func (*host) holdsStacks() bool                                              { return false }
func (*host) program([]bridge, []forward) error                              { return nil }
func (*host) forget()                                                        {}
func (*host) clearRules() error                                              { return nil }
func (*host) sweep(map[brig.ID][]string, map[string]bool) (bool, error)      { return false, nil }
func (*host) remove() error                                                  { return nil }
func (*host) strays(map[brig.ID][]string, map[string]bool) ([]string, error) { return nil, nil }
func (*host) scrap(string) error                                             { return unsupported() }
func (*host) missing() []string                                              { return nil }
func (*host) notes(bool) []note                                              { return nil }
func (*host) watch() (<-chan struct{}, func())                               { return nil, func() {} }
