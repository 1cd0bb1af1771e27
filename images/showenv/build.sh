#!/bin/sh
# Runs in the build: as root, in the working directory, in what will be the image.
set -e
mkdir -p /usr/local/bin /opt/data
cp showenv.sh /usr/local/bin/showenv
chmod 755 /usr/local/bin/showenv
chown 61:61 /opt/data
chmod 775 /opt/data
