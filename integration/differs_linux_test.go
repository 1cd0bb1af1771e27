package integration

import (
	"os"
	"regexp"
	"runtime"
	"testing"
)

// hostDiffers is empty: the suite was written on Linux.
var hostDiffers = map[string]string{}

// nsOf is a pattern of the link by which this process's namespace is known.
func nsOf(t *testing.T, kind string) string {
	t.Helper()
	ns, err := os.Readlink("/proc/self/ns/" + kind)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.QuoteMeta(ns) + "\n"
}

// resolverOf is where containers of a network ask for names.
func resolverOf(testing.TB, string) string { return "127.0.0.11" }

// loopback makes an address of 127.0.0.0/8 one of this host's, as all are here.
func loopback(testing.TB, string) {}

// answersElsewise: the answers were recorded on Linux.
func answersElsewise(string, string, string) bool { return false }

// thisHost is how `brig check` names it.
func thisHost(*testing.T) string { return "linux/" + runtime.GOARCH }

// limitsHeld are the memory in bytes and the processes, or max, that the kernel holds a container to, one a line.
func limitsHeld(t *testing.T, id string) string {
	t.Helper()
	return ok(t, "exec", id, "sh", "-c", limitFiles)
}

// stoppedSleep is the exit code of a container's only process that does nothing about SIGTERM and is stopped: process 1 is not ended by it.
const stoppedSleep = 137

// podMounts are how many mounts of the host a pod of one app with a volume has more than a container: they are in a namespace of its own.
const podMounts = 0
