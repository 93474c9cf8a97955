#!/bin/sh
# Stand-in for nvidia-uninstall: takes out what the .run put in, and its modules from dkms.
case "${1:-}" in -s | --silent | --ui=none | "") ;; *) echo "ERROR: unrecognized option: \"$1\""; exit 1 ;; esac
[ -f /var/lib/nvidia/log ] || { echo "There is no NVIDIA driver currently installed."; exit 1; }
version=$(cat /var/lib/nvidia/version)
echo "nvidia-installer log file '/var/log/nvidia-uninstall.log'" >/var/log/nvidia-uninstall.log
if [ -d "/var/lib/dkms/nvidia/$version" ]; then
    dkms remove -m nvidia -v "$version" --all >>/var/log/nvidia-uninstall.log 2>&1 || exit 1
fi
while read -r path; do rm -f "$path"; done </var/lib/nvidia/log
rm -rf "/usr/src/nvidia-$version" /var/lib/nvidia
for folder in /lib/modules/*; do depmod "$(basename "$folder")"; done
ldconfig
echo "Uninstallation of existing driver: NVIDIA Accelerated Graphics Driver for Linux-x86_64 ($version) is complete."
