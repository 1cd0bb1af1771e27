package ocispec

import (
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

func TestWarningsBeforeThereIsAJail(t *testing.T) {
	host := &Host{Caps: []string{"CAP_CHOWN", "CAP_KILL"}, HardLimits: map[string]uint64{"RLIMIT_NOFILE": 20000}, Controllers: []string{"memory", "pids"}}
	for _, c := range []struct {
		name string
		spec brig.Spec
		want string // of the only warning; "": none
	}{
		{"nothing asked", brig.Spec{}, ""},
		{"privileged", brig.Spec{Privileged: true}, "CAP_SYS_RESOURCE"},
		{"ulimit", brig.Spec{Ulimits: []brig.Ulimit{{Name: "nofile", Soft: 1, Hard: 65536}}}, "reduced to 20000"},
		{"controller", brig.Spec{Limits: brig.Limits{CPUShares: 5}}, "Limitation discarded"},
		{"there", brig.Spec{Limits: brig.Limits{Pids: 5}}, ""},
		{"wrong, which start will say", brig.Spec{Ulimits: []brig.Ulimit{{Name: "nosuch"}}}, ""},
	} {
		got := Warnings(host, &c.spec)
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
