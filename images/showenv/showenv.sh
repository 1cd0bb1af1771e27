#!/bin/sh
# Shows what an app is given: arguments, identity, environment, mounts, files and metadata.
set -e
echo "program: $0"
for a; do echo "argument: $a"; done
echo "identity: $(id)"
echo "directory: $(pwd)"
echo "before the start: $(cat before)"
env | sort | sed 's/^/environment: /'
mount | sed 's/^/mount: /'
if [ -n "$AC_METADATA_URL" ]; then
	echo "pod: $(wget -q -O - --header 'Metadata-Flavor: AppContainer' "$AC_METADATA_URL/acMetadata/v1/pod/uuid" || echo unknown)"
fi
