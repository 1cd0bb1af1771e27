// Package erase removes directories of brig's own, but never what others have mounted in them.
package erase

import "os"

// All is os.RemoveAll for a directory that a container's mounts may still lie in: they are taken away first. If one can't be, nothing is
// removed. A directory that is not there is no error. dir is absolute, clean and without symbolic links on its way.
func All(dir string) error {
	if err := uncover(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// Uncover takes away what is mounted on and in dir, for one that is to be renamed before All: a mount goes by the name of its place as it was made.
func Uncover(dir string) error { return uncover(dir) }
