package runtime

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

func TestServers(t *testing.T) {
	at := func(s string) brig.Endpoint { return brig.Endpoint{Resolver: netip.MustParseAddr(s)} }
	for name, c := range map[string]struct {
		eps  map[string]brig.Endpoint
		want []string
	}{
		"none":            {nil, nil},
		"the default one": {map[string]brig.Endpoint{"bridge": {}}, nil},
		"of its own":      {map[string]brig.Endpoint{"bridge": {}, "a": {}, "b": {}}, []string{"127.0.0.11"}},
		"the host's":      {map[string]brig.Endpoint{"b": at("10.1.0.1"), "a": at("fd00::1"), "bridge": {}}, []string{"fd00::1", "10.1.0.1"}},
	} {
		if got := servers(&brig.Container{Endpoints: c.eps}); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, not %q", name, got, c.want)
		}
	}
}
