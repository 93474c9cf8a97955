#!/bin/sh
# Oracle's VirtualBox-6.0.24-139119-Linux_amd64.run with its real command line, places and exit codes; the program only
# says its version, and the modules do nothing.
VERSION=6.0.24 REVISION=139119 TARGET=/opt/VirtualBox
ACTION=install BUILD=true FORCE=
for word in "$@"; do
    case "$word" in
    install | --install) ACTION=install ;;
    uninstall | --uninstall) ACTION=uninstall ;;
    force | --force) FORCE=1 ;;
    license_accepted_unconditionally | --license_accepted_unconditionally) ;;
    no_module | --no_module) BUILD= ;;
    *) echo "Specifying an installation path is not allowed -- using $TARGET!" ;;
    esac
done
if [ "$ACTION" = uninstall ]; then
    exec "$TARGET/uninstall.sh"
fi
command -v bzip2 >/dev/null || { echo "Please install the bzip2 archive utility"; exit 1; }
if [ -d "$TARGET" ] && [ -z "$FORCE" ]; then
    echo "Do you wish to continue anyway? [yes or no]"
    read -r reply || exit 1
    [ "$reply" = yes ] || exit 1
fi
mkdir -p /etc/vbox "$TARGET/src/vboxhost"
printf '%s\n' "INSTALL_DIR='$TARGET'" "INSTALL_VER='$VERSION'" "INSTALL_REV='$REVISION'" >/etc/vbox/vbox.cfg
cat >"$TARGET/VBoxManage" <<'PROGRAM'
#!/bin/sh
settings="$HOME/.config/VirtualBox/VirtualBox.xml"
case "$1 $2" in
"--version ") echo 6.0.24r139119 ;;
"list extpacks") echo "Extension Packs: 0" ;;
"setextradata global") mkdir -p "${settings%/*}" && printf '<ExtraDataItem name="%s" value="%s"/>\n' "$3" "$4" >"$settings" ;;
*) exit 2 ;;
esac
PROGRAM
chmod 755 "$TARGET/VBoxManage"
ln -sf "$TARGET/VBoxManage" /usr/bin/VBoxManage
for name in vboxdrv vboxnetflt vboxnetadp; do
    mkdir -p "$TARGET/src/vboxhost/$name"
    cat >"$TARGET/src/vboxhost/$name/$name.c" <<MODULE
#include <linux/module.h>
MODULE_LICENSE("GPL");
MODULE_VERSION("$VERSION r$REVISION (0x00290001)");
MODULE
    echo "obj-m += $name.o" >"$TARGET/src/vboxhost/$name/Makefile"
    echo "obj-m += $name/" >>"$TARGET/src/vboxhost/Makefile.new"
done
mv "$TARGET/src/vboxhost/Makefile.new" "$TARGET/src/vboxhost/Makefile"
{
    printf '%s\n' 'PACKAGE_NAME="vboxhost"' "PACKAGE_VERSION=\"$VERSION\"" 'AUTOINSTALL="yes"' 'CLEAN="rm -f *.*o"'
    number=0
    for name in vboxdrv vboxnetflt vboxnetadp; do
        printf '%s\n' "BUILT_MODULE_NAME[$number]=\"$name\"" "BUILT_MODULE_LOCATION[$number]=\"$name\"" \
            "DEST_MODULE_LOCATION[$number]=\"/kernel/misc\""
        number=$((number + 1))
    done
} >"$TARGET/src/vboxhost/dkms.conf"
ln -sfn "$TARGET/src/vboxhost" "/usr/src/vboxhost-$VERSION"
groupadd -r -f vboxusers
cat >"$TARGET/uninstall.sh" <<'PROGRAM'
#!/bin/sh
rm -rf /etc/vbox /usr/bin/VBoxManage /usr/src/vboxhost-6.0.24 /opt/VirtualBox
PROGRAM
chmod 755 "$TARGET/uninstall.sh"
echo "VirtualBox has been installed successfully."
# As the real one: it fails where no module is loaded at its end, whatever it was asked to build.
[ -n "$BUILD" ] && echo "this stand-in builds nothing"
grep -q '^vboxdrv ' /proc/modules || { echo "The installation log file is at /var/log/vbox-install.log."; exit 1; }
