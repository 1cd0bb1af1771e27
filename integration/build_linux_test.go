package integration

import "golang.org/x/sys/unix"

func setCapability(path string) error {
	return unix.Setxattr(path, "security.capability", []byte(capability), 0)
}
