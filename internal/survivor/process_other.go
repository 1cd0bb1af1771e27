//go:build !linux && !freebsd

package survivor

// Prefer does nothing: this system has no such setting that a process may give itself.
func Prefer() error { return nil }

// Shed does nothing: this system has no list of a process's descriptors.
func Shed() {}
