"""Reader of netCDF-4 files as xarray data sets, by h5py."""

import h5py
import xarray as xr

_STRUCTURE = ("CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST")  # and names that begin with _N


def read_dataset(file: h5py.File, group: str | None = None) -> xr.Dataset:
    """The same as `xr.load_dataset(path, engine="h5netcdf", group=group)`, which takes several times as long.

    Dimensions are defined in the file's root or in the group.
    """
    own = file if group is None else file[group]
    scales = {
        item.attrs["_Netcdf4Dimid"]: name
        for node in (file, own)
        for name, item in node.items()
        if item.attrs.get("CLASS") == b"DIMENSION_SCALE"
    }
    raw = {}
    for name, item in own.items():
        dims = item.attrs.get("_Netcdf4Coordinates", ())  # none of a dimension without values
        if isinstance(item, h5py.Dataset) and item.ndim == len(dims):
            values = item.asstr()[...].astype(str) if item.dtype.kind == "O" else item[...]
            raw[name] = xr.Variable([scales[number] for number in dims], values, _attributes(item))
    return xr.decode_cf(xr.Dataset(raw, attrs=_attributes(own))).load()


def _attributes(item: h5py.Group | h5py.Dataset) -> dict[str, object]:
    """The attributes that are no part of netCDF's own structure; of an array with one value, that value."""
    return {
        name: value[0] if getattr(value, "shape", ()) == (1,) else value
        for name, value in item.attrs.items()
        if name not in _STRUCTURE and not name.startswith("_N")
    }
