package jailer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/nsfile"
)

// TestSandbox has two jails, one after the other's end and one beside it, share what a pod shares, with each OCI runtime.
func TestSandbox(t *testing.T) {
	eachRuntime(t, func(b *bench) {
		b.cfg.PodDir = filepath.Join(b.dir, "TestJailPods")
		s := &brig.Sandbox{ID: brig.NewID(), Hostname: "both", ShmSize: 1 << 20}
		for range 2 { // what a former brigd has left is made anew
			if err := b.MakeSandbox(b.Context(), s); err != nil {
				b.Fatal(err)
			}
			s.Netns = brig.Netns{}
		}
		s.Netns = brig.Netns{Kind: brig.NetnsPath, Path: filepath.Join(b.cfg.PodDir, string(s.ID), podNet)}
		b.Cleanup(func() {
			for range 2 {
				if err := b.DropSandbox(b.Context(), s.ID); err != nil {
					b.Error(err)
				}
			}
			if _, err := os.Stat(b.cfg.PodDir); !os.IsNotExist(err) || nsfile.IsMountPoint(b.cfg.PodDir) {
				b.Errorf("the pods' directory is left: %v", err)
			}
		})
		in := func(command string) *brig.Jail {
			j := b.jail("sh", "-c", command)
			j.Pod, j.Netns, j.Spec.CapAdd = s, s.Netns, []string{"SYS_ADMIN"}
			return j
		}
		const look = "for n in ipc uts net; do readlink /proc/self/ns/$n; done; hostname; cat /dev/shm/note; ls /dev/mqueue"
		out, said, _ := b.run(in("echo here > /dev/shm/note; touch /dev/mqueue/queue; hostname changed; "+look), "")
		again, more, _ := b.run(in(look), "")
		if out == "" || out != again || strings.Count(out, "[") != 3 || !strings.HasSuffix(out, "changed\nhere\nqueue\n") {
			b.Errorf("first %q %q, then %q %q", out, said, again, more)
		}
		// Two at once reach each other by localhost, and nobody else's.
		server := in("echo hello | nc -l -p 4000")
		h := b.create(server)
		b.start(h)
		if out, said, _ := b.run(in("for i in $(seq 100); do nc 127.0.0.1 4000 </dev/null && exit; sleep 0.1; done; cat /proc/net/dev"), ""); out != "hello\n" {
			b.Errorf("by localhost: %q %q", out, said)
		}
		b.wait(h)
		if err := b.SweepSandboxes(b.Context(), []brig.ID{s.ID}); err != nil || !nsfile.Bound(s.IPC) {
			b.Errorf("a sweep has taken one that lives: %v", err)
		}
		s.Hostname = strings.Repeat("x", 65)
		if err := b.MakeSandbox(b.Context(), s); !errs.Is(err, errs.Invalid) {
			b.Errorf("a host name that is too long: %v", err)
		}
		if left, _ := os.ReadDir(b.cfg.PodDir); len(left) != 0 {
			b.Errorf("a failure has left %v", left)
		}
	})
}
