package main

import "golang.org/x/sys/unix"

// memoryDir is a directory of this instance in memory, "" where there is none that programs can be executed in: a build's RUN may, in its context.
func memoryDir(instance string) string {
	const shm = "/dev/shm"
	var st unix.Statfs_t
	if unix.Statfs(shm, &st) != nil || st.Type != unix.TMPFS_MAGIC || st.Flags&unix.ST_NOEXEC != 0 || st.Flags&unix.ST_RDONLY != 0 {
		return ""
	}
	return shm + "/brig-" + instance
}
