package resolv

import (
	"testing"

	"github.com/brigd/brig/internal/brig"
)

func TestMergeResolv(t *testing.T) {
	host := "# made by hand\nnameserver 127.0.0.1\nnameserver 10.0.0.1\nsearch a b\noptions ndots:2\n"
	for _, c := range []struct {
		name, text string
		dns        brig.DNS
		host       bool
		own        []string
		want       string
	}{
		{"host's network", host, brig.DNS{}, true, nil, host},
		{"loopback servers left out", host, brig.DNS{}, false, nil, "nameserver 10.0.0.1\nsearch a b\noptions ndots:2\n"},
		{"none left", "nameserver ::1\n", brig.DNS{}, false, nil, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"},
		{"asked for", host, brig.DNS{Servers: []string{"9.9.9.9"}, Search: []string{"."}, Options: []string{"x"}}, false, nil, "nameserver 9.9.9.9\noptions x\n"},
		{"asked for in the host's network", host, brig.DNS{Search: []string{"c"}}, true, nil, "nameserver 127.0.0.1\nnameserver 10.0.0.1\nsearch c\noptions ndots:2\n"},
		{"a server of its own", host, brig.DNS{Servers: []string{"9.9.9.9"}, Options: []string{"edns0"}}, false, []string{"127.0.0.11"}, "nameserver 127.0.0.11\nsearch a b\noptions edns0 ndots:0\n"},
		{"a server of its own, dots set", host, brig.DNS{}, false, []string{"127.0.0.11"}, "nameserver 127.0.0.11\nsearch a b\noptions ndots:2\n"},
		{"no more servers than are read", "", brig.DNS{Options: []string{"ndots:1"}}, false, []string{"10.0.0.1", "10.1.0.1", "fd00::1", "10.3.0.1"},
			"nameserver 10.0.0.1\nnameserver 10.1.0.1\nnameserver fd00::1\noptions ndots:1\n"},
	} {
		if got := Merge(c.text, c.dns, c.host, c.own); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
