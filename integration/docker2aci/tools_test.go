package docker2aci

import (
	"os/exec"
	"testing"
)

// TestBuild builds what brig's own tests run: docker2aci unpatched, and of appc's own actool and the validator of executors.
func TestBuild(t *testing.T) {
	for _, p := range []string{"./docker2aci-oracle", "github.com/appc/spec/actool", "github.com/appc/spec/ace"} {
		if out, err := exec.Command("go", "build", "-o", t.TempDir()+"/", p).CombinedOutput(); err != nil {
			t.Errorf("build %s: %v\n%s", p, err, out)
		}
	}
}
