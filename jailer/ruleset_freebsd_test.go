package jailer

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
	"github.com/brigd/brig/jailer/jailspec"
)

// Brig makes its ruleset where there is none or a beginning of it, and touches no other one.
func TestRuleset(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: devfs rulesets")
	}
	devfs := func(args ...string) {
		t.Helper()
		if _, err := host.Run(t.Context(), append([]string{"devfs", "rule", "-s", "4242"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	devfs("delset")
	defer devfs("delset") // a Cleanup would come after the end of the test's context
	j := &Jailer{cfg: Config{Ruleset: 4242}}
	ours := func() bool {
		rules, err := j.ruleset(t.Context())
		return err == nil && slices.Equal(rules, jailspec.Devices)
	}
	for _, c := range []struct {
		name string
		add  string // to an empty ruleset
		ok   bool
	}{{"none", "", true}, {"a beginning", "hide", true}, {"another", "path da* unhide", false}} {
		devfs("delset")
		if c.add != "" {
			devfs(append([]string{"add"}, strings.Fields(c.add)...)...)
		}
		err := j.ensureRuleset(t.Context())
		if (err == nil) != c.ok || ours() != c.ok || !c.ok && errs.KindOf(err) != errs.Unavailable {
			t.Errorf("%s: %v, ours %v", c.name, err, ours())
		}
	}
}
