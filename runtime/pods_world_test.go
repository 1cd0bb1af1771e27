package runtime

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
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

// identSeam is the metadata service, and what it needs of images.
type identSeam brigd

func (b *identSeam) Publish(_ context.Context, p brig.PodIdentity) error {
	if (*brigd)(b).gone() {
		return errCrashed
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	b.told[p.UUID] = p
	return nil
}

func (b *identSeam) Withdraw(_ context.Context, uuid string) error {
	if (*brigd)(b).gone() {
		return errCrashed
	}
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	delete(b.told, uuid)
	return nil
}

func (b *identSeam) URL(uuid string, gateway netip.Addr) string {
	return "http://" + gateway.String() + "/" + uuid
}

func (b *identSeam) Sweep(_ context.Context, live []string) error {
	b.world.mu.Lock()
	defer b.world.mu.Unlock()
	maps.DeleteFunc(b.told, func(uuid string, _ brig.PodIdentity) bool { return !slices.Contains(live, uuid) })
	return nil
}

func (b *identSeam) ImageGet(context.Context, string) (*brig.ImageInfo, error) {
	img := b.image
	img.ACI = brig.ACI{Name: testACI, ID: testACIID}
	return &brig.ImageInfo{Image: img}, nil
}

func (b *identSeam) ImageBlob(context.Context, string, string) ([]byte, error) {
	return []byte(testManifest), nil
}

// gone reports whether the brigd has died.
func (b *brigd) gone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dead
}
