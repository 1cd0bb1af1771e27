package runtime

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// podSeam keeps sandboxes, and knows the world's image by what appc calls it.
type podSeam brigd

func (b *podSeam) MakeSandbox(_ context.Context, s *brig.Sandbox) error {
	if err := (*brigd)(b).step("sandbox"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	b.boxes[s.ID] = true
	s.IPC, s.UTS, s.Shm = "ipc", "uts", "shm"
	return nil
}

func (b *podSeam) DropSandbox(_ context.Context, id brig.ID) error {
	if err := (*brigd)(b).step("drop sandbox"); err != nil {
		return err
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	delete(b.boxes, id)
	return nil
}

func (b *podSeam) SweepSandboxes(_ context.Context, live []brig.ID) error {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	maps.DeleteFunc(b.boxes, func(id brig.ID, _ bool) bool { return !slices.Contains(live, id) })
	return nil
}

const (
	testACI      = "example.com/img"
	testManifest = `{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/img","labels":[{"name":"version","value":"1"}],
		"app":{"exec":["sleep"],"user":"0","group":"0","mountPoints":[{"name":"data","path":"/data"}],"ports":[{"name":"web","port":80,"protocol":"tcp"}]}}`
)

var testACIID = "sha512-" + strings.Repeat("5", 128)

func (b *podSeam) FindACI(_ context.Context, d brig.ACIDependency) (brig.Digest, string, error) {
	if d.ID != "" && d.ID != testACIID || d.Name != "" && d.Name != testACI {
		return "", "", errs.New(errs.NotFound, "No such image: %s", fmt.Sprint(d))
	}
	return b.image.ID, "img", nil
}

func (b *podSeam) ACIDocument(context.Context, brig.Digest) (string, []byte, error) {
	return testACIID, []byte(testManifest), nil
}
