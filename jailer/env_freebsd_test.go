package jailer

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/nmount"
	"github.com/brigd/brig/jailer/jailctl"
	"github.com/brigd/brig/jailer/jailspec"
)

// eachRuntime runs f with brig-jail, which stands beside the shim. The programs in the jails are for Linux.
func eachRuntime(t *testing.T, f func(b *bench)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: jails and mounts")
	}
	f(newBench(t, ""))
}

// leftovers looks for what no test may leave: jails, shims and mounts.
func leftovers() error {
	var found []error
	jails, err := jailctl.List()
	for _, name := range jails {
		if strings.Contains(name, jailspec.Prefix(testInstance)) {
			found = append(found, fmt.Errorf("jail %s", name))
		}
	}
	for _, h := range (&Jailer{cfg: Config{Instance: testInstance, Shim: shimPath}}).shims() {
		found = append(found, fmt.Errorf("shim %d in %s", h.ShimPID, h.Dir))
	}
	points, perr := nmount.Points()
	for _, p := range points {
		if strings.Contains(p, "TestJail") {
			found = append(found, fmt.Errorf("mount %s", p))
		}
	}
	return errors.Join(append(found, err, perr)...)
}

func alone() error { return nil }

// sweepOld finds nothing of a run that was killed: a machine for tests is started anew.
func sweepOld() error { return nil }

const execLoop = "BRIG_TEST_EXEC_LOOP"

func executeAgain() int { return 1 }
