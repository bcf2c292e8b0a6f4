# cmake -DROOT=… -DOUT=file.cpp -P source_hash.cmake: the hash of everything that decides what object code comes out.
file(GLOB files RELATIVE ${ROOT} ${ROOT}/ir/*.cpp ${ROOT}/ir/*.h ${ROOT}/ir/ops.def ${ROOT}/compiler/*.cpp ${ROOT}/compiler/*.h
     ${ROOT}/compiler/fuse/* ${ROOT}/codegen/*.cpp ${ROOT}/codegen/*.h ${ROOT}/codegen/cpu/*.cpp ${ROOT}/codegen/cpu/*.h)
list(SORT files)
set(all)
foreach(file ${files})
  file(SHA256 ${ROOT}/${file} hash)
  string(APPEND all "${file} ${hash}\n")
endforeach()
string(SHA256 hash "${all}")
string(SUBSTRING ${hash} 0 32 hash)
file(CONFIGURE OUTPUT ${OUT} CONTENT
"namespace tilewright {\nextern const char kCodegenSourceHash[];\nconst char kCodegenSourceHash[] = \"${hash}\";\n}\n")
